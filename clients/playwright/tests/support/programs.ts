/** Programs of their own that use the client as it is installed. */

import { token, url } from "./farm";
import { cleanEnvironment, Process } from "./processes";
import { OF_THE_SHOP } from "./suite";

/**
 * @param code Finds a `farm`.
 * @param before Is run before the client is loaded.
 */
export function clientProgram(code: string, env: Record<string, string>, before = ""): Process {
  const farm = 'const { Botfarm } = require("@botfarm/playwright/client"); const farm = new Botfarm();';
  const script = [before, farm, code].join("\n");
  return new Process(process.execPath, ["--input-type=commonjs", "-e", script], {
    cwd: OF_THE_SHOP,
    env: cleanEnvironment({ BOTFARM_URL: url, BOTFARM_TOKEN: token, BOTFARM_ENV: "stage", ...env }),
  });
}
