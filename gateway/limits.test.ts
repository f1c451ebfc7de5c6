/** Invariant 8 as a table: a limit that no code keeps to, or that no test goes over, does not pass. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { limitTests } from "../scripts/mutate/limit-tests.ts";
import { limits } from "./limits.ts";

const names = Object.keys(limits) as (keyof typeof limits)[];
const sources = [...new Bun.Glob("**/*.ts").scanSync(import.meta.dir)]
  .filter((path) => !path.endsWith(".test.ts") && path !== "limits.ts")
  .map((path) => readFileSync(join(import.meta.dir, path), "utf8"));

test.each(names)("%s is kept to by the program, and has a test that goes over it", (name) => {
  const used = sources.filter((source) => new RegExp(`\\blimits\\.${name}\\b`).test(source));
  expect(used.length).toBeGreaterThan(0);
  const { file, name: title } = limitTests[name];
  const path = join(import.meta.dir, file);
  expect(existsSync(path)).toBe(true);
  expect(readFileSync(path, "utf8")).toContain(title);
  expect(file).toEndWith(".test.ts");
});

test("each limit is a number above zero that a timer or a buffer can have", () => {
  for (const name of names) {
    expect(limits[name]).toBeGreaterThan(0);
    expect(limits[name]).toBeLessThan(2 ** 31);
    expect(Number.isSafeInteger(limits[name])).toBe(true);
  }
});
