import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { buildBundle, defaultBundle } from "./build.ts";
import { policiesFolder } from "./sources.ts";

// Where OPA is neither given nor built yet, Go builds it first.
test("the committed default bundle is what its sources compile to", () => {
  expect(Buffer.from(buildBundle(policiesFolder)).equals(readFileSync(defaultBundle))).toBe(true);
}, 600_000);
