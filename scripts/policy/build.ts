/**
 * Builds `policies/dist/bundle.tar.gz`: the same sources give the same bytes. The manifest says the revision (digest of
 * the sources) and which input paths the policy can see (`opa deps`), which the decision cache is keyed by.
 */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { parse as parseYaml } from "yaml";
import { readArchive } from "../../gateway/policy/archive.ts";
import { tarball } from "./tarball.ts";
import { resolveOpa } from "./toolchain.ts";

const root = resolve(import.meta.dir, "../..");
export const policiesFolder = join(root, "policies");
export const defaultBundle = join(policiesFolder, "dist/bundle.tar.gz");

/** Rego sources (tests left out) and data, relative to the folder, sorted. */
export function policySources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => !name.startsWith("dist/") && !name.split("/").some((part) => part.startsWith(".")))
    .filter((name) => (name.endsWith(".rego") && !name.endsWith("_test.rego")) || name === "data.yaml")
    .sort();
}

function run(command: readonly string[], cwd: string): string {
  const result = Bun.spawnSync([...command], { cwd, stdout: "pipe", stderr: "pipe" });
  if (result.exitCode !== 0) {
    throw new Error(`${command.join(" ")}\n${result.stdout.toString()}${result.stderr.toString()}`);
  }
  return result.stdout.toString();
}

/** sha256:<hex> of the sources' names and contents: what a bundle made of them says of itself. */
export function sourceRevision(folder: string): string {
  const revision = createHash("sha256");
  for (const name of policySources(folder)) {
    const content = readFileSync(join(folder, name));
    revision.update(`${name}\u0000${content.length}\u0000`).update(content);
  }
  return `sha256:${revision.digest("hex")}`;
}

/** @param folder of Rego sources, data.yaml and capabilities.json. @returns the bundle's bytes */
export function buildBundle(folder: string): Uint8Array {
  const opa = resolveOpa();
  const sources = policySources(folder);
  const work = mkdtempSync(join(tmpdir(), "sallyport-policy-"));
  try {
    // Names relative to the folder: the module holds them, and equal sources must be equal bytes in any checkout.
    const rego = sources.filter((name) => name.endsWith(".rego"));
    const data = parseYaml(readFileSync(join(folder, "data.yaml"), "utf8")) as unknown;
    const dataFile = join(work, "data.json");
    writeFileSync(dataFile, JSON.stringify(data));
    const built = join(work, "built.tar.gz");
    const entrypoints = ["-e", "sallyport/session", "-e", "sallyport/command"];
    const capabilities = join(policiesFolder, "capabilities.json");
    run(
      [opa, "build", "-t", "wasm", ...entrypoints, "--capabilities", capabilities, "-o", built, ...rego, dataFile],
      folder,
    );
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
      // A path is a list of terms; a term that is no plain string ends what is known of it.
      const plain = (path: readonly { type: string; value: unknown }[]) => {
        const [root, ...keys] = path;
        const end = keys.findIndex((key) => key.type !== "string");
        return [root?.value, ...(end < 0 ? keys : keys.slice(0, end)).map((key) => key.value)].join(".");
      };
      return [...new Set((deps.base ?? []).map(plain))]
        .filter((path) => path === "input" || path.startsWith("input."))
        .sort();
    };
    const manifest = {
      revision: sourceRevision(folder),
      roots: [""],
      wasm: [
        { entrypoint: "sallyport/command", module: "/policy.wasm" },
        { entrypoint: "sallyport/session", module: "/policy.wasm" },
      ],
      metadata: {
        sallyport: {
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

/** Compiles the sources into the committed default bundle. */
export function writeDefaultBundle(): string {
  mkdirSync(join(policiesFolder, "dist"), { recursive: true });
  writeFileSync(defaultBundle, buildBundle(policiesFolder));
  return relative(root, defaultBundle);
}
