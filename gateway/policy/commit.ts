/** The git commit of a policy: what its sources are built at, or that of a committed bundle, which cannot name its own. */
import { dirname, resolve } from "node:path";

/** A full name, with "-dirty" where the sources were not as that commit left them. */
export const commitForm = /^[0-9a-f]{40}([0-9a-f]{24})?(-dirty)?$/;
const dirty = "-dirty";
const gitTimeoutMs = 2_000;

async function git(directory: string, ...args: string[]): Promise<string | undefined> {
  try {
    const run = Bun.spawn(["git", "-c", "core.fsmonitor=false", "-C", directory, ...args], {
      ...{ stdout: "pipe", stderr: "ignore", stdin: "ignore", timeout: gitTimeoutMs },
    });
    const [output, exitCode] = await Promise.all([new Response(run.stdout).text(), run.exited]);
    return exitCode === 0 ? output.trim() : undefined;
  } catch {
    return undefined;
  }
}

/** The last commit that touched the policies, if the bundle is a committed file and they are as that commit left them. */
export async function findCommit(path: string): Promise<string | undefined> {
  const directory = dirname(resolve(path));
  if ((await git(directory, "ls-files", "--error-unmatch", "--", resolve(path))) === undefined) return undefined;
  const commit = await commitOfSources(directory, [":/policies"]);
  return commit?.endsWith(dirty) ? undefined : commit;
}

/**
 * The last commit that touched what the pathspecs name in a folder, "-dirty" where that has changed since.
 * @returns undefined where git has nothing of it
 */
export async function commitOfSources(folder: string, pathspecs: readonly string[]): Promise<string | undefined> {
  const commit = await git(folder, "log", "-1", "--format=%H", "--", ...pathspecs);
  if (commit === undefined || !commitForm.test(commit)) return undefined;
  return (await git(folder, "status", "--porcelain", "--", ...pathspecs)) === "" ? commit : `${commit}${dirty}`;
}

/** As people read it: "0123456789ab" or "0123456789ab-dirty". */
export function shortCommit(commit: string): string {
  return commit.replace(/^([0-9a-f]{12})[0-9a-f]+/, "$1");
}
