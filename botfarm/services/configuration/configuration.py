"""The farm as a file wants it: what would change, and the change, all of it or nothing."""

import asyncio

from botfarm.crypto.key_ring import KeyRing
from botfarm.db.leasing import advisory_locks
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import Principal
from botfarm.domain.configuration import Applied, Plan, WantedFarm
from botfarm.services.configuration.applying import Applying
from botfarm.services.configuration.known_farm import read_farm
from botfarm.services.configuration.planning import changed_meanwhile, make_plan
from botfarm.services.configuration.seeds import sealed_seeds
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.projects import Projects
from botfarm.services.trust.trust_rules import TrustRules

PATIENCE = 60.0
"""Seconds for a whole transaction, the wait for another apply included. Of 10,000 users one takes some seconds."""


class Configuration:
    def __init__(
        self,
        database: Database,
        key_ring: KeyRing,
        notifier: Notifier,
        projects: Projects,
        trust_rules: TrustRules,
    ) -> None:
        self._database = database
        self._key_ring = key_ring
        self._notifier = notifier
        self._projects = projects
        self._trust_rules = trust_rules

    async def plan(self, principal: Principal, wanted: WantedFarm) -> Plan:
        """What an apply would do. Raises InvalidRequestError for places of the file that cannot be carried out."""
        async with self._database.transaction(patience=PATIENCE) as session:
            known = await read_farm(session, principal, wanted)
        return await asyncio.to_thread(make_plan, principal, wanted, known)

    async def apply(self, principal: Principal, wanted: WantedFarm, fingerprint: str) -> Applied:
        """Carries out the plan that has this fingerprint, in one transaction, one apply after the other.

        Raises InvalidRequestError; ChangedMeanwhileError when the plan would be another one by now.
        """
        sealed = await sealed_seeds(self._key_ring, wanted)
        async with self._database.transaction(patience=PATIENCE) as session:
            await advisory_locks.lock_configuration(session, patience=PATIENCE)
            known = await read_farm(session, principal, wanted)
            # In a thread, because 10,000 users take a part of a second, in which other requests must be served.
            plan = await asyncio.to_thread(make_plan, principal, wanted, known)
            if plan.fingerprint != fingerprint:
                raise changed_meanwhile()
            applying = Applying(session, principal, wanted, plan, known)
            tokens = await applying.run(sealed)
        for project_id in applying.changed_projects:
            self._projects.forget(project_id)
            self._notifier.freed(project_id)
        self._trust_rules.forget()
        return Applied(plan, tokens)
