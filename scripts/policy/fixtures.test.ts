import { expect, test } from "bun:test";
import { fixturePaths, runFixtures } from "./fixtures.ts";
import { loadPolicy } from "./subject.ts";

test("the fixture sessions hold, and a change of the policy's data is told with step, expected, got and the rule's place", async () => {
  const good = await runFixtures(await loadPolicy({}), fixturePaths([]));
  expect(good.failures).toEqual([]);
  expect(good.steps).toBeGreaterThan(30);
  const changed = await loadPolicy({}, { labels: { secret: { mask: "hash" } } });
  const { failures } = await runFixtures(changed, fixturePaths([]));
  expect(failures[0]).toMatch(
    /step 2: select ssn, email[\s\S]*- expected mask[\s\S]*"redact"[\s\S]*\+ got[\s\S]*"hash"[\s\S]*policies\/labels\/labels\.rego:\d+/,
  );
});
