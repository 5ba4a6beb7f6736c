"""A fake farm in this process, for tests of code that uses the SDK."""

from botfarm_client.testing.fake_farm import FakeFarm as FakeFarm
from botfarm_client.testing.fake_policy import FakePolicy as FakePolicy
from botfarm_client.testing.fake_users import FakeLease as FakeLease
from botfarm_client.testing.fake_users import FakeUser as FakeUser
