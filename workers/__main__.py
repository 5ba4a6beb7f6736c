import sys

from botfarm.settings import SettingsError
from workers.process import main

try:
    main()
except SettingsError as error:
    sys.exit(f"botfarm: {error}")
