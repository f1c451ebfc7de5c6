/** The git commit of a bundle that is a committed file, which cannot name its own. */
import { dirname, resolve } from "node:path";

export const commitForm = /^[0-9a-f]{40}([0-9a-f]{24})?$/;
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
  if ((await git(directory, "status", "--porcelain", "--", ":/policies")) !== "") return undefined;
  const commit = await git(directory, "log", "-1", "--format=%H", "--", ":/policies");
  return commit !== undefined && commitForm.test(commit) ? commit : undefined;
}
