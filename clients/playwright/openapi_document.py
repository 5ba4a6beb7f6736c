"""Prints the farm's OpenAPI document, which `npm run openapi` makes src/openapi.ts of."""

import json
import sys

from botfarm.settings import load_settings
from botfarm.web.app import create_app

json.dump(create_app(load_settings()).openapi(), sys.stdout)
