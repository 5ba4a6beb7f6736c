"""A farm on PostgreSQL under Patroni, under load, when the leader changes or a node stops or falls silent.

Nothing that was acknowledged is lost, and no user is shared.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from farm_processes import FarmProcesses, farm_processes
from patroni_cluster import PatroniCluster, patroni_cluster
from runners import Runners, runners_of

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def cluster() -> Iterator[PatroniCluster]:
    with patroni_cluster() as started:
        yield started


@pytest.fixture(scope="module")
def farm(cluster: PatroniCluster) -> Iterator[FarmProcesses]:
    with farm_processes(cluster.url) as started:
        yield started


@contextmanager
def under_load(farm: FarmProcesses, cluster: PatroniCluster) -> Iterator[Runners]:
    """Test runs acquire users before the block, in it, and after it. Then nothing acknowledged is lost."""
    runners = runners_of(farm)
    with runners.at_work():
        runners.until_more_are_acquired()
        yield runners
        runners.until_more_are_acquired()
    runners.assert_nothing_is_lost(cluster.url)


def test_a_commit_that_the_standby_does_not_have_is_not_acknowledged(
    cluster: PatroniCluster, farm: FarmProcesses
) -> None:
    """So that everything acknowledged outlives the leader."""
    leader, _ = cluster.until_whole()
    with under_load(farm, cluster) as runners:
        leader.freeze_sending()
        try:
            runners.until_somebody_is_refused()
        finally:
            leader.thaw()


def test_after_a_planned_switchover_the_service_goes_on_by_itself(
    cluster: PatroniCluster, farm: FarmProcesses, record_property: Record
) -> None:
    leader, standby = cluster.until_whole()
    with under_load(farm, cluster) as runners:
        cluster.switch_over(leader, standby)
        cluster.until_led_by(standby)
    record_property("longest pause in a planned switchover, seconds", runners.longest_pause())
    assert cluster.until_whole() == (standby, leader)


def test_after_the_death_of_the_leader_the_service_goes_on_by_itself(
    cluster: PatroniCluster, farm: FarmProcesses, record_property: Record
) -> None:
    leader, standby = cluster.until_whole()
    with under_load(farm, cluster) as runners:
        leader.die()
        cluster.until_led_by(standby)
    assert runners.refused > 0
    record_property("longest pause after the death of the leader, seconds", runners.longest_pause())
    leader.start()
    assert cluster.until_whole() == (standby, leader)


@pytest.mark.heavy
def test_after_the_leader_fell_silent_the_service_goes_on_by_itself(
    cluster: PatroniCluster, farm: FarmProcesses, record_property: Record
) -> None:
    """Connections to it do not end; new ones get no answer. When it is back, it still thinks it leads."""
    leader, standby = cluster.until_whole()
    with under_load(farm, cluster) as runners:
        with leader.frozen():
            cluster.until_led_by(standby)
            runners.until_more_are_acquired()
        assert cluster.until_whole() == (standby, leader)
    assert runners.refused > 0
    record_property("longest pause after the leader fell silent, seconds", runners.longest_pause())


@pytest.mark.heavy
def test_after_the_standby_fell_silent_the_service_goes_on_by_itself(
    cluster: PatroniCluster, farm: FarmProcesses, record_property: Record
) -> None:
    """Each commit of the leader waits for the standby until the standby's key in etcd expires."""
    leader, standby = cluster.until_whole()
    with under_load(farm, cluster) as runners, standby.frozen():
        runners.until_more_are_acquired()
    record_property("longest pause after the standby fell silent, seconds", runners.longest_pause())
    assert cluster.until_whole() == (leader, standby)
