import { test } from "../../src/index";

test.use({ botWait: 2 });

test("has no time", async ({ bot: _ }) => {});
