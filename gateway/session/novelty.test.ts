import { expect, test } from "bun:test";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { emptyStore } from "../../scripts/session-stand-ins.ts";
import { Novelty } from "./novelty.ts";

test("what memory has no room for is asked of the store again, and never forgotten", async () => {
  using _ = loweredLimits({ decisionCacheEntriesMax: 2 });
  const stored = new Set<string>();
  let asked = 0;
  const novelty = new Novelty({
    ...emptyStore,
    fingerprintSeen: async (...key) => {
      asked += 1;
      return stored.has(key.join());
    },
    recordFingerprint: (...key) => void stored.add(key.join()),
  });
  expect(await novelty.isNovel("ann", "db", "a")).toBe(true);
  for (const kind of ["a", "b"]) await novelty.saw("ann", "db", kind);
  expect([novelty.isNovel("ann", "db", "a"), novelty.isNovel("ann", "db", "b"), asked]).toEqual([false, false, 1]);
  // One over the limit: the oldest goes.
  await novelty.saw("ann", "db", "c");
  expect(novelty.isNovel("ann", "db", "b")).toBe(false);
  expect(await novelty.isNovel("ann", "db", "a")).toBe(false);
  expect(asked).toBe(2);
});
