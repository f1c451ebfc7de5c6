import { expect, test } from "bun:test";
import type { Decision, Mask } from "../../../gateway/policy/decision.ts";
import { changesBetween } from "./changes.ts";

const masks: Mask[] = [{ column: "public.customers.ssn", with: "redact", rule: "labels.secret" }];
const weaker: Mask[] = [{ column: "public.customers.ssn", with: "hash", rule: "labels.pii" }];
const approval = { from: ["dba"], count: 1, ttl: "15m" };
const one = (verdict: Decision["verdict"], rest: Partial<Decision> = {}): Decision => ({
  verdict,
  rules: [{ id: `r.${verdict}`, message: "m" }],
  masks: [],
  diagnostics: "canonical",
  ...(verdict === "approve" && { approval }),
  ...rest,
});
const kinds = (base: Decision, head: Decision) =>
  changesBetween(base, head).map(({ kind, rules }) => `${kind} ${rules.join()}`);

test("each transition between verdicts has its kinds, by the rule that makes the difference", () => {
  const mask = one("mask", { masks });
  expect(kinds(one("allow"), one("allow"))).toEqual([]);
  expect(kinds(one("deny"), one("allow"))).toEqual(["allow r.deny"]);
  expect(kinds(one("deny"), mask)).toEqual(["allow r.deny"]);
  expect(kinds(one("deny"), one("approve"))).toEqual(["allow r.deny", "hold r.approve"]);
  expect(kinds(one("allow"), one("deny"))).toEqual(["deny r.deny"]);
  expect(kinds(one("approve"), one("deny"))).toEqual(["deny r.deny"]);
  expect(kinds(one("allow"), one("approve"))).toEqual(["hold r.approve"]);
  expect(kinds(one("approve"), one("allow"))).toEqual(["release r.approve"]);
  expect(kinds(mask, one("approve"))).toEqual(["hold r.approve", "unmask labels.secret"]);
  expect(kinds(one("allow"), mask)).toEqual(["mask labels.secret"]);
  expect(kinds(mask, one("allow"))).toEqual(["unmask labels.secret"]);
});

test("a weaker mask unmasks, a stronger one masks, and the column is named", () => {
  const [strong, weak] = [one("mask", { masks }), one("mask", { masks: weaker })];
  expect(changesBetween(strong, weak)).toEqual([
    {
      kind: "unmask",
      rules: ["labels.secret"],
      masks: [{ column: "public.customers.ssn", base: "redact", head: "hash" }],
    },
  ]);
  expect(changesBetween(weak, strong).map(({ kind }) => kind)).toEqual(["mask"]);
});

test("other terms of approval, errors in full and other messages are changes, too", () => {
  expect(kinds(one("approve"), one("approve", { approval: { ...approval, from: ["all"] } }))).toEqual([
    "approval r.approve",
  ]);
  expect(kinds(one("allow"), one("allow", { diagnostics: "full" }))).toEqual(["errors r.allow"]);
  expect(kinds(one("allow", { diagnostics: "full" }), one("allow"))).toEqual(["other r.allow"]);
  expect(kinds(one("deny"), one("deny", { rules: [{ id: "x", message: "" }] }))).toEqual(["other r.deny,x"]);
});
