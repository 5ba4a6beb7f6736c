"""A farm on PostgreSQL under Patroni, under load: planned and unplanned, another leader. Nothing acknowledged is lost, nobody shares a user."""

from collections.abc import Callable, Iterator

import pytest

from farm_processes import FarmProcesses, farm_processes
from patroni_cluster import PatroniCluster, patroni_cluster
from runners import runners_of

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def cluster() -> Iterator[PatroniCluster]:
    with patroni_cluster() as started:
        yield started


@pytest.fixture(scope="module")
def farm(cluster: PatroniCluster) -> Iterator[FarmProcesses]:
    with farm_processes(cluster.url) as started:
        yield started


def test_what_the_standby_does_not_have_is_told_to_nobody(
    cluster: PatroniCluster, farm: FarmProcesses
) -> None:
    """So that whatever is told outlives the leader."""
    leader, _ = cluster.until_whole()
    runners = runners_of(farm)
    with runners.at_work():
        runners.until_more_are_acquired()
        leader.freeze_sending()
        try:
            runners.until_somebody_is_refused()
        finally:
            leader.thaw()
        runners.until_more_are_acquired()
    runners.assert_nothing_is_lost(cluster.url)


def test_after_a_planned_switchover_the_service_goes_on_by_itself(
    cluster: PatroniCluster, farm: FarmProcesses, record_property: Record
) -> None:
    leader, standby = cluster.until_whole()
    runners = runners_of(farm)
    with runners.at_work():
        runners.until_more_are_acquired()
        cluster.switch_over(leader, standby)
        cluster.until_led_by(standby)
        runners.until_more_are_acquired()
    runners.assert_nothing_is_lost(cluster.url)
    record_property("longest pause in a planned switchover, seconds", runners.longest_pause())
    assert cluster.until_whole() == (standby, leader)


def test_after_the_death_of_the_leader_the_service_goes_on_by_itself(
    cluster: PatroniCluster, farm: FarmProcesses, record_property: Record
) -> None:
    leader, standby = cluster.until_whole()
    runners = runners_of(farm)
    with runners.at_work():
        runners.until_more_are_acquired()
        leader.die()
        cluster.until_led_by(standby)
        runners.until_more_are_acquired()
    assert runners.refused > 0
    runners.assert_nothing_is_lost(cluster.url)
    record_property("longest pause after the death of the leader, seconds", runners.longest_pause())
    leader.start()
    assert cluster.until_whole() == (standby, leader)


@pytest.mark.heavy
def test_after_the_leader_fell_silent_the_service_goes_on_by_itself(
    cluster: PatroniCluster, farm: FarmProcesses, record_property: Record
) -> None:
    """Connections to it do not end, new ones get no answer; and when it is back it still thinks that it leads."""
    leader, standby = cluster.until_whole()
    runners = runners_of(farm)
    with runners.at_work():
        runners.until_more_are_acquired()
        with leader.frozen():
            cluster.until_led_by(standby)
            runners.until_more_are_acquired()
        assert cluster.until_whole() == (standby, leader)
        runners.until_more_are_acquired()
    assert runners.refused > 0
    runners.assert_nothing_is_lost(cluster.url)
    record_property("longest pause after the leader fell silent, seconds", runners.longest_pause())


@pytest.mark.heavy
def test_after_the_standby_fell_silent_the_service_goes_on_by_itself(
    cluster: PatroniCluster, farm: FarmProcesses, record_property: Record
) -> None:
    """The leader waits for it with every commit, until its key in etcd ends."""
    leader, standby = cluster.until_whole()
    runners = runners_of(farm)
    with runners.at_work():
        runners.until_more_are_acquired()
        with standby.frozen():
            runners.until_more_are_acquired()
    runners.assert_nothing_is_lost(cluster.url)
    record_property("longest pause after the standby fell silent, seconds", runners.longest_pause())
    assert cluster.until_whole() == (leader, standby)
