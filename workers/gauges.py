from botfarm.services.upkeep.maintenance import Maintenance


async def refresh_gauges(maintenance: Maintenance) -> None:
    await maintenance.refresh_gauges()
