/** A copy of this checkout that tests may change, as a fresh clone would be. */
import { cpSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { resolveOpa } from "../toolchain.ts";

const root = resolve(import.meta.dir, "../../..");

export interface Checkout {
  readonly folder: string;
  readonly opa: string;
  /** `bun run policy …` in it. */
  policy(...line: string[]): Promise<{ readonly code: number; readonly out: string }>;
  start(...line: string[]): Bun.Subprocess<"ignore", "pipe", "pipe">;
  remove(): void;
}

export function copyCheckout(): Checkout {
  const folder = mkdtempSync(join(tmpdir(), "sallyport-checkout-"));
  for (const part of ["gateway", "scripts", "policies", "fixtures", "package.json"]) {
    cpSync(join(root, part), join(folder, part), { recursive: true });
  }
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  const opa = resolveOpa();
  const env = { ...process.env, OPA_BIN: opa };
  const start = (...line: string[]) =>
    Bun.spawn([process.execPath, "scripts/policy/main.ts", ...line], {
      ...{ cwd: folder, env },
      ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe" },
    }) as Bun.Subprocess<"ignore", "pipe", "pipe">;
  return {
    folder,
    opa,
    start,
    async policy(...line) {
      const run = start(...line);
      const [out, errors] = await Promise.all([new Response(run.stdout).text(), new Response(run.stderr).text()]);
      return { code: await run.exited, out: out + errors };
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
