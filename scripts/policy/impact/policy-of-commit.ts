/** The policies of a git commit: their sources out of the repository, the bundle that is committed or made of them. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve, sep } from "node:path";
import { readArchive } from "../../../gateway/policy/archive.ts";
import { loadBundle } from "../../../gateway/policy/bundle.ts";
import type { PolicyData } from "../../../gateway/policy/data.ts";
import { buildBundle } from "../build.ts";
import { policiesFolder, sourceData, sourceRevision } from "../sources.ts";
import { opaVersion } from "../toolchain.ts";

const root = dirname(policiesFolder);
const folderName = relative(root, policiesFolder);
const cacheFolder = join(root, ".tools/bundles");
/** How far back labels of recordings are looked for. */
const commitsMax = 200;

function git(repository: string, ...args: string[]): Buffer {
  const command = ["git", "-c", "core.fsmonitor=false", "-C", repository, ...args];
  const run = Bun.spawnSync(command, { stdout: "pipe", stderr: "pipe", stdin: "ignore" });
  if (run.exitCode !== 0) throw new Error(`git ${args.join(" ")}: ${run.stderr.toString().trim()}`);
  return run.stdout;
}

/** @returns the commit's full name. @throws Error where there is none */
export function commitOf(ref: string, repository = root): string {
  try {
    return git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", `${ref}^{commit}`).toString().trim();
  } catch {
    throw new Error(`"${ref}" is neither a bundle's file nor a commit of this repository`);
  }
}

/** Gives `use` a folder with the commit's policies, which is gone afterwards. */
export async function withPoliciesOf<T>(
  commit: string,
  use: (folder: string) => T | Promise<T>,
  repository = root,
): Promise<T> {
  const work = mkdtempSync(join(tmpdir(), "sallyport-policies-"));
  try {
    const files = readArchive(git(repository, "archive", "--format=tar.gz", commit, "--", folderName));
    const folder = join(work, folderName);
    mkdirSync(folder);
    for (const [name, content] of files) {
      const path = resolve(work, name);
      if (!path.startsWith(folder + sep)) throw new Error(`${commit}: ${name} is outside ${folderName}`);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, content);
    }
    return await use(folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The committed bundle where it is of these sources, else one that is compiled, once for the same sources. */
export async function bundleOf(folder: string): Promise<Uint8Array> {
  const revision = sourceRevision(folder);
  const committed = join(folder, "dist/bundle.tar.gz");
  const found = await loadBundle({ bundle: committed }).catch(() => undefined);
  if (found?.revision.digest === revision) return readFileSync(committed);
  const maker = createHash("sha256").update(opaVersion);
  maker.update(readFileSync(join(policiesFolder, "capabilities.json")));
  maker.update(readFileSync(resolve(import.meta.dir, "../build.ts")));
  const cached = join(cacheFolder, `${revision.slice("sha256:".length)}-${maker.digest("hex").slice(0, 16)}.tar.gz`);
  if (existsSync(cached)) return readFileSync(cached);
  const made = buildBundle(folder);
  mkdirSync(cacheFolder, { recursive: true });
  const aside = `${cached}.${process.pid}`;
  writeFileSync(aside, made);
  renameSync(aside, cached);
  return made;
}

/**
 * Data by revision (digest of the sources) of the commits that lead to `from` and changed the policies, latest first:
 * recordings name such revisions. A shallow clone has few.
 */
export async function pastData(from: readonly string[], repository = root): Promise<Map<string, PolicyData>> {
  const found = new Map<string, PolicyData>();
  const listed = git(repository, "log", `--max-count=${commitsMax}`, "--format=%H", ...from, "--", folderName);
  for (const commit of listed.toString().split("\n").filter(Boolean)) {
    try {
      await withPoliciesOf(
        commit,
        (folder) => {
          found.set(sourceRevision(folder), sourceData(folder));
        },
        repository,
      );
    } catch {
      // A commit that removed them, or whose data is not valid, made no recording.
    }
  }
  return found;
}
