import { expect, test } from "bun:test";
import fc from "fast-check";
import { limits } from "../limits.ts";
import type { RateLimit } from "../policy/decision.ts";
import { Rates } from "./rates.ts";

const rate = (commands: number, per_ms: number, rule = "rules.x"): RateLimit => ({ commands, per_ms, rule });

test("no span of a rate's length ever has more commands than it allows, and none is refused that had room", () => {
  const steps = fc.array(fc.nat({ max: 40 }), { maxLength: 200 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 100 }), steps, (commands, per, gaps) => {
      const rates = new Rates();
      const taken: number[] = [];
      let at = 1_000;
      for (const gap of gaps) {
        at += gap;
        const room = taken.filter((moment) => moment > at - per).length < commands;
        const usedUp = rates.take("ann", "db", [rate(commands, per)], at);
        expect(usedUp === undefined).toBe(room);
        if (usedUp === undefined) taken.push(at);
        else expect(usedUp.waitMs).toBe((taken.at(-commands) ?? 0) + per - at);
      }
    }),
  );
});

test("each identity, target and rule has its own count", () => {
  const rates = new Rates();
  const one = [rate(1, 1_000)];
  expect(rates.take("ann", "db", one, 0)).toBeUndefined();
  expect(rates.take("ann", "db", one, 1)?.rate.rule).toBe("rules.x");
  expect(rates.take("bob", "db", one, 1)).toBeUndefined();
  expect(rates.take("ann", "other", one, 1)).toBeUndefined();
  expect(rates.take("ann", "db", [rate(1, 1_000, "rules.y")], 1)).toBeUndefined();
});

test("a command that one rate refuses counts against none", () => {
  const rates = new Rates();
  const both = [rate(5, 1_000, "rules.a"), rate(1, 100, "rules.b")];
  expect(rates.take("ann", "db", both, 0)).toBeUndefined();
  for (let at = 1; at < 50; at++) expect(rates.take("ann", "db", both, at)?.rate.rule).toBe("rules.b");
  for (const at of [100, 200, 300, 400]) expect(rates.take("ann", "db", both, at)).toBeUndefined();
  expect(rates.take("ann", "db", both, 500)?.rate.rule).toBe("rules.a");
});

test("a rule whose number is changed goes on counting", () => {
  const rates = new Rates();
  for (let at = 0; at < 5; at++) expect(rates.take("ann", "db", [rate(5, 1_000)], at)).toBeUndefined();
  expect(rates.take("ann", "db", [rate(3, 1_000)], 10)?.waitMs).toBe(2 + 1_000 - 10);
  expect(rates.take("ann", "db", [rate(6, 1_000)], 20)).toBeUndefined();
});

test("what no longer counts is forgotten, and what cannot be counted is refused", () => {
  const rates = new Rates();
  for (let index = 0; index < limits.rateLogsMax; index++) rates.take(`${index}`, "db", [rate(1, 1_000)], index % 2);
  expect(rates.take("one more", "db", [rate(1, 1_000)], 999)?.waitMs).toBe(1_000);
  expect(rates.take("one more", "db", [rate(1, 1_000)], 1_001)).toBeUndefined();
});
