/**
 * Finds OPA and Regal: OPA_BIN or REGAL_BIN, else the pinned version on PATH, else `.tools/`, else built into `.tools/`
 * with Go from the pinned modules, whose go.sum is the checksum. Running the gateway needs neither.
 */
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "../..");

interface Tool {
  readonly title: string;
  /** Of the binary, and of the module's folder in `scripts/tools/`. */
  readonly name: string;
  readonly variable: string;
  readonly version: string;
  readonly module: string;
  /** Where the version is written at link time; a build of OPA knows it by itself. */
  readonly versionVariable?: string;
  readonly buildSeconds: number;
}

export const opaVersion = "1.22.2";
const opa: Tool = {
  title: "OPA",
  name: "opa",
  variable: "OPA_BIN",
  version: opaVersion,
  module: "github.com/open-policy-agent/opa",
  buildSeconds: 80,
};
const regal: Tool = {
  title: "Regal",
  name: "regal",
  variable: "REGAL_BIN",
  version: "0.39.0",
  module: "github.com/open-policy-agent/regal",
  versionVariable: "github.com/open-policy-agent/regal/pkg/version.Version",
  buildSeconds: 45,
};

function versionOf(binary: string): string | undefined {
  try {
    const run = Bun.spawnSync([binary, "version"], { stdout: "pipe", stderr: "ignore" });
    return /^Version:\s+v?([0-9.]+)/.exec(run.stdout.toString())?.[1];
  } catch {
    return undefined;
  }
}

const resolved = new Map<Tool, string>();

/** Asked for at every compilation: a process looks once. */
function resolveTool(tool: Tool): string {
  const found = resolved.get(tool) ?? find(tool);
  resolved.set(tool, found);
  return found;
}

function find(tool: Tool): string {
  const { title, name, variable, version } = tool;
  const given = process.env[variable];
  if (given) {
    if (versionOf(given) !== version) throw new Error(`${variable}=${given} is not ${title} ${version}`);
    return given;
  }
  const onPath = Bun.which(name);
  if (onPath !== null && versionOf(onPath) === version) return onPath;
  const own = join(root, ".tools", name);
  if (existsSync(own) && versionOf(own) === version) return own;
  const go = Bun.which("go");
  if (go === null) {
    throw new Error(
      `${title} ${version} was not found: set ${variable}, put it on PATH or in .tools/${name}, or install Go to have it built`,
    );
  }
  console.error(`Building ${title} ${version} with Go into .tools/ (once, about ${tool.buildSeconds} s) …`);
  mkdirSync(join(root, ".tools"), { recursive: true });
  const stamp = tool.versionVariable === undefined ? [] : ["-ldflags", `-X ${tool.versionVariable}=${version}`];
  const build = Bun.spawnSync([go, "build", ...stamp, "-o", own, tool.module], {
    cwd: join(root, "scripts/tools", name),
    env: { ...process.env, CGO_ENABLED: "0" },
    stdout: "inherit",
    stderr: "inherit",
  });
  if (build.exitCode !== 0 || versionOf(own) !== version) {
    throw new Error(`${title} ${version} could not be built: set ${variable}, or put it on PATH or in .tools/${name}`);
  }
  return own;
}

/** @returns the path of an OPA of the pinned version. @throws Error that names every way to get one */
export function resolveOpa(): string {
  return resolveTool(opa);
}

/** @returns the path of a Regal of the pinned version. @throws Error that names every way to get one */
export function resolveRegal(): string {
  return resolveTool(regal);
}
