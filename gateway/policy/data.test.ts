import { expect, test } from "bun:test";
import { checkData, unknownTargets } from "./data.ts";

const check = (data: unknown) => () => checkData(data, "data.yaml");

test.each([
  ["a class that agents are held for", { agents: { hold: ["wirte"] } }],
  ["a class that agents are denied", { agents: { deny: ["dcll"] } }],
  ["what agents are held by", { agents: { holds: ["write"] } }],
  ["what a label has", { labels: { pii: { shown_to: ["dba"] } } }],
  ["a labelled column without its schema", { targets: { prod: { labels: { "customers.email": ["pii"] } } } }],
  ["a target's labels", { targets: { prod: { lables: { "public.a.b": ["pii"] } } } }],
  ["a target's access", { targets: { prod: { acess: { ours: ["read"] } } } }],
  ["targets", { target: { prod: {} } }],
  ["rules", { Rules: {} }],
  ["what is dangerous", { dangerous: { function: ["pg_catalog.lo_*"] } }],
])("a misspelling that would loosen is refused: %s", (_, data) => {
  expect(check(data)).toThrow(expect.objectContaining({ code: "policy.bundle_invalid" }));
});

test("data of a deployment's own passes", () => {
  const data = {
    targets: { prod: { access: { ours: ["read", "our.class"] }, labels: { "public.a.b": ["pii"] }, note: 1 } },
    ...{
      labels: { pii: { mask: "hash", show_to: [] } },
      agents: { hold: ["write", "novel"], deny: [] },
      ours: { a: 1 },
      roles: ["not rules"],
    },
  };
  expect(check(data)).not.toThrow();
});

test("targets that the gateway does not have are found where data names them, and patterns are not", () => {
  const rules = { night: { on: { targets: ["demo", "dmeo", "prod-*"] } }, all: { deny: "no" } };
  const data = { targets: { demo: {}, dmeo: {} }, rules };
  expect(unknownTargets(data, new Set(["demo"]))).toEqual([
    ["targets", "dmeo"],
    ["rules", "night", "on", "targets", 1],
  ]);
  for (const odd of [{}, { targets: ["dmeo"], rules: { a: null } }])
    expect(unknownTargets(odd, new Set(["demo"]))).toEqual([]);
});
