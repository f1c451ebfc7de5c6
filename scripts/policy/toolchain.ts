/**
 * Finds OPA: OPA_BIN, else the pinned version on PATH, else `.tools/`, else built into `.tools/` with Go from the
 * pinned module. Running the gateway needs none of it.
 */
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "../..");
export const opaVersion = "1.22.2";

function versionOf(binary: string): string | undefined {
  const run = Bun.spawnSync([binary, "version"], { stdout: "pipe", stderr: "ignore" });
  return /^Version: ([0-9.]+)/.exec(run.stdout.toString())?.[1];
}

/** @returns the path of an OPA of the pinned version. @throws Error that names every way to get one */
export function resolveOpa(): string {
  const given = process.env.OPA_BIN;
  if (given) {
    if (versionOf(given) !== opaVersion) throw new Error(`OPA_BIN=${given} is not OPA ${opaVersion}`);
    return given;
  }
  const onPath = Bun.which("opa");
  if (onPath !== null && versionOf(onPath) === opaVersion) return onPath;
  const own = join(root, ".tools/opa");
  if (existsSync(own) && versionOf(own) === opaVersion) return own;
  const go = Bun.which("go");
  if (go === null) {
    throw new Error(
      `OPA ${opaVersion} was not found: set OPA_BIN, put it on PATH or in .tools/opa, or install Go to have it built`,
    );
  }
  console.error(`Building OPA ${opaVersion} with Go into .tools/ (once, about 80 s) …`);
  mkdirSync(join(root, ".tools"), { recursive: true });
  const build = Bun.spawnSync([go, "build", "-o", own, "github.com/open-policy-agent/opa"], {
    cwd: join(root, "scripts/tools/opa"),
    env: { ...process.env, CGO_ENABLED: "0" },
    stdout: "inherit",
    stderr: "inherit",
  });
  if (build.exitCode !== 0 || versionOf(own) !== opaVersion) {
    throw new Error(`OPA ${opaVersion} could not be built: set OPA_BIN, or put it on PATH or in .tools/opa`);
  }
  return own;
}
