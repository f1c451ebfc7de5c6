/**
 * Builds `policies/dist/bundle.tar.gz`: the same sources give the same bytes. The manifest says the revision (digest of
 * the sources) and which input paths the policy can see (`opa deps`), which the decision cache is keyed by.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { readArchive } from "../../gateway/policy/archive.ts";
import { entrypoints, preparedEntrypoint } from "../../gateway/policy/bundle.ts";
import { refuseConflicts } from "./conflicts.ts";
import { writeInputSchema } from "./input-schema.ts";
import { policiesFolder, policySources, sourceData, sourceRevision } from "./sources.ts";
import { tarball } from "./tarball.ts";
import { resolveOpa } from "./toolchain.ts";

const root = resolve(import.meta.dir, "../..");
export const defaultBundle = join(policiesFolder, "dist/bundle.tar.gz");

/** As a bundle of `policy build` has them. */
const entrypointNames = [entrypoints.command, preparedEntrypoint, entrypoints.session];

function run(command: readonly string[], cwd: string): string {
  const result = Bun.spawnSync([...command], { cwd, stdout: "pipe", stderr: "pipe" });
  if (result.exitCode !== 0) {
    throw new Error(`${command.join(" ")}\n${result.stdout.toString()}${result.stderr.toString()}`);
  }
  return result.stdout.toString();
}

/**
 * What makes OPA compile a folder's sources, run in that folder.
 * @param bundle the path that is written. @param data the file of the data document, where there is to be one
 */
export function opaBuildCommand(folder: string, bundle: string, data?: string): string[] {
  const rego = policySources(folder).filter((name) => name.endsWith(".rego"));
  const names = entrypointNames.flatMap((name) => ["-e", name]);
  const capabilities = ["--capabilities", join(policiesFolder, "capabilities.json")];
  const files = data === undefined ? rego : [...rego, data];
  return [resolveOpa(), "build", "-t", "wasm", ...names, ...capabilities, "-o", bundle, ...files];
}

/** What OPA alone makes of a folder's sources. @param bundle the path that is written */
export function opaBuild(folder: string, bundle: string, dataFile = "data.yaml"): void {
  run(opaBuildCommand(folder, bundle, dataFile), folder);
}

/**
 * @param folder of Rego sources and data.yaml. @param commit that the bundle names itself by, beside its revision
 * @returns the bundle's bytes. @throws Error that says what is wrong with the sources
 */
export function buildBundle(folder: string, commit?: string): Uint8Array {
  const opa = resolveOpa();
  const sources = policySources(folder);
  refuseConflicts(folder);
  const data = sourceData(folder);
  const work = mkdtempSync(join(tmpdir(), "sallyport-policy-"));
  try {
    // Names relative to the folder: the module holds them, and equal sources must be equal bytes in any checkout.
    const rego = sources.filter((name) => name.endsWith(".rego"));
    const dataFile = join(work, "data.json");
    writeFileSync(dataFile, JSON.stringify(data));
    const built = join(work, "built.tar.gz");
    opaBuild(folder, built, dataFile);
    const archive = readArchive(readFileSync(built));
    const wasm = archive.get("policy.wasm");
    if (wasm === undefined) throw new Error("opa build gave no policy.wasm");
    const paths = (entrypoint: string): string[] => {
      const deps = JSON.parse(
        run(
          [
            opa,
            "deps",
            "-f",
            "json",
            ...rego.flatMap((file) => ["-d", file]),
            "-d",
            dataFile,
            `data.sallyport.${entrypoint}`,
          ],
          folder,
        ),
      ) as {
        base?: { type: string; value: unknown }[][];
      };
      // A path is a list of terms; a term that is no plain string, or has a dot, ends what is known of it.
      const plain = (path: readonly { type: string; value: unknown }[]) => {
        const [root, ...keys] = path;
        const end = keys.findIndex((key) => key.type !== "string" || !/^\w+$/.test(String(key.value)));
        return [root?.value, ...(end < 0 ? keys : keys.slice(0, end)).map((key) => key.value)].join(".");
      };
      return [...new Set((deps.base ?? []).map(plain))]
        .filter((path) => path === "input" || path.startsWith("input."))
        .sort();
    };
    const manifest = {
      revision: sourceRevision(folder),
      roots: [""],
      wasm: entrypointNames.map((entrypoint) => ({ entrypoint, module: "/policy.wasm" })),
      metadata: {
        sallyport: {
          ...(commit !== undefined && { commit }),
          input_paths: { command: paths("command"), session: paths("session") },
          nondeterministic: sources.some((name) =>
            /\b(time\.now_ns|rand\.intn|http\.send|uuid\.rfc4122|opa\.runtime)\b/.test(
              readFileSync(join(folder, name), "utf8"),
            ),
          ),
        },
      },
      rego_version: 1,
    };
    return tarball([
      [".manifest", Buffer.from(JSON.stringify(manifest))],
      ["data.json", Buffer.from(JSON.stringify(data))],
      ["policy.wasm", Buffer.from(wasm)],
    ]);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Compiles the sources into the committed default bundle, and writes the schema that they are checked by. */
export function writeDefaultBundle(): string {
  mkdirSync(join(policiesFolder, "dist"), { recursive: true });
  writeInputSchema(policiesFolder);
  writeFileSync(defaultBundle, buildBundle(policiesFolder));
  return relative(root, defaultBundle);
}
