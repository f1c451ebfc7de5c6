import { expect, test } from "bun:test";
import type { Decision } from "./decision.ts";
import { DecisionCache } from "./decision-cache.ts";

const decision = (id: string): Decision => ({
  ...{ verdict: "allow", rules: [{ id, message: "" }], masks: [], diagnostics: "full" },
});

test("holds no more than its limit, and what is used stays", () => {
  const cache = new DecisionCache(10);
  cache.set("used", decision("used"));
  for (let n = 1; n <= 100; n++) {
    cache.set(`${n}`, decision(`${n}`));
    expect(cache.size).toBeLessThanOrEqual(10);
    expect(cache.get("used")?.rules[0]?.id).toBe("used");
  }
  expect(cache.get("100")?.rules[0]?.id).toBe("100");
  expect(cache.get("1")).toBeUndefined();
});
