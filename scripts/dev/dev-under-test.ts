/** `bun run dev` as its user has it, for tests. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const waitMsMax = 30_000;

export async function startDev(sources: string) {
  const command = [process.execPath, join(import.meta.dir, "run.ts"), "--policies", sources];
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  let out = "";
  const read = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) out += decoder.decode(chunk, { stream: true });
  };
  void read(child.stdout);
  void read(child.stderr);

  let seen = 0;
  /** @returns what matches, looked for behind what the call before found. */
  const until = async (pattern: RegExp): Promise<string> => {
    const deadline = performance.now() + waitMsMax;
    for (;;) {
      const found = pattern.exec(out.slice(seen));
      if (found !== null) {
        seen += found.index + found[0].length;
        return found[0];
      }
      if (performance.now() > deadline || child.exitCode !== null) throw new Error(`not printed: ${pattern}\n${out}`);
      await Bun.sleep(10);
    }
  };
  const stop = (): Promise<number> => {
    child.kill("SIGTERM");
    return child.exited;
  };
  try {
    const [, token = ""] = /PGPASSWORD=\$\(cat '(.+?)'\)/.exec(await until(/PGPASSWORD=.*/)) ?? [];
    const [, port, user = ""] = / port=(\d+) .* user=(\S+)"/.exec(await until(/psql ".*"/)) ?? [];
    await until(/Watching/);
    return { port: Number(port), user, token: readFileSync(token, "utf8"), folder: dirname(token), until, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
