/** Programs of their own that use the client as it is installed. */

import { token, url } from "./farm";
import { cleanEnvironment, Process } from "./processes";
import { OF_THE_SHOP } from "./suite";

/** @param code Finds a `farm`. */
export function clientProgram(code: string, env: Record<string, string>): Process {
  const script = `const { Botfarm } = require("@botfarm/playwright/client"); const farm = new Botfarm();\n${code}`;
  return new Process(process.execPath, ["--input-type=commonjs", "-e", script], {
    cwd: OF_THE_SHOP,
    env: cleanEnvironment({ BOTFARM_URL: url, BOTFARM_TOKEN: token, BOTFARM_ENV: "stage", ...env }),
  });
}
