/** `policy check`: what can be said of the rules without running them. */
import { join } from "node:path";
import { ruleConflicts } from "./conflicts.ts";
import { inputSchemaFile } from "./input-schema.ts";
import { policiesFolder, sourceData } from "./sources.ts";
import { resolveOpa, resolveRegal } from "./toolchain.ts";

/** The tools' output is the user's. */
function run(folder: string, ...command: string[]): number {
  return Bun.spawnSync(command, { cwd: folder, stdout: "inherit", stderr: "inherit" }).exitCode;
}

function dataProblems(folder: string): string[] {
  try {
    sourceData(folder);
    return [];
  } catch (error) {
    return [(error as Error).message];
  }
}

/** @returns the exit code: that of the first check that failed, each of them having run. */
export function check(folder: string): number {
  const opa = resolveOpa();
  const formatted = run(folder, opa, "fmt", "--fail", "--list", ".");
  if (formatted !== 0) console.error("not formatted: run `opa fmt -w policies`");
  const capabilities = ["--capabilities", join(policiesFolder, "capabilities.json")];
  // A path that the input's schema does not have is a type error.
  const schema = ["--schema", join(policiesFolder, inputSchemaFile)];
  const ignored = ["--ignore", "dist", "--ignore", ".regal"];
  const checked = run(folder, opa, "check", "--strict", ...capabilities, ...schema, ...ignored, ".");
  const config = ["--config-file", join(policiesFolder, ".regal/config.yaml")];
  const linted = run(folder, resolveRegal(), "lint", ...config, ".");
  const refused = [...ruleConflicts(folder), ...dataProblems(folder)];
  for (const problem of refused) console.error(problem);
  return formatted || checked || linted || Number(refused.length > 0);
}
