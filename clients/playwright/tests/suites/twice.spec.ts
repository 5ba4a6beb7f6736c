import { test } from "../../src/index";
import { type Area, siteSession } from "./site";

const area = process.env["AREA"] as Area;
const options = JSON.parse(process.env["OPTIONS"] ?? "{}") as object;

test.use({ botSession: { ...siteSession(area), ...options } });

for (const number of [1, 2]) {
  test(`number ${number}`, async ({ bot: _, page }) => {
    await page.goto(`${process.env["SITE_URL"]}/${area}/account`);
  });
}
