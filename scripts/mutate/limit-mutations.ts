/** A mutation a limit, made by rule: wherever the program uses it, it is so high that nothing reaches it. */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { limits } from "../../gateway/limits.ts";
import { limitTests } from "./limit-tests.ts";
import type { Edit, Mutation } from "./mutation.ts";

const gateway = resolve(import.meta.dir, "../../gateway");
/** What a timer still waits for, eleven days; pages of memory are counted in 64 kB, and 4 GB is the end. */
const highest = (name: string) => (name === "policyMemoryPagesMax" ? 65_536 : 1_000_000_000);

export function limitMutations(): Mutation[] {
  const sources = [...new Bun.Glob("**/*.ts").scanSync(gateway)]
    .filter((path) => !path.endsWith(".test.ts"))
    .sort()
    .map((path) => ({ path, text: readFileSync(join(gateway, path), "utf8") }));
  return (Object.keys(limits) as (keyof typeof limits)[]).map((name) => {
    const { file, name: title } = limitTests[name];
    const edits = sources.flatMap(({ path, text }): Edit[] => {
      const times = text.match(new RegExp(`limits\\.${name}\\b`, "g"))?.length ?? 0;
      if (times === 0) return [];
      return [
        { file: `gateway/${path}`, search: `limits.${name}`, replace: String(highest(name)), times, whole: true },
      ];
    });
    return { invariant: 8, what: name, edits, test: { kind: "test", file: `gateway/${file}`, name: title } };
  });
}
