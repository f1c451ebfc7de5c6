/** A copy of the checkout to break: what git tracks or would, with links to what is installed. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { applyEdit, type Edit, type TestToFail } from "./mutation.ts";

const root = resolve(import.meta.dir, "../..");
/** A test that hangs has noticed something, too, but says so late: longer than any takes. */
const runTimeoutMs = 150_000;

export interface Ran {
  readonly passed: number;
  readonly failed: number;
  readonly output: string;
}

export class Scratch {
  readonly folder = mkdtempSync(join(tmpdir(), "sallyport-mutate-"));

  constructor() {
    const listed = Bun.spawnSync(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
      cwd: root,
    });
    if (listed.exitCode !== 0)
      throw new Error("the files of the checkout could not be listed: is this a git repository?");
    for (const path of listed.stdout.toString().split("\0")) {
      if (path === "" || !existsSync(join(root, path))) continue;
      mkdirSync(dirname(join(this.folder, path)), { recursive: true });
      copyFileSync(join(root, path), join(this.folder, path));
    }
    for (const path of ["node_modules", ".tools"])
      if (existsSync(join(root, path))) symlinkSync(join(root, path), join(this.folder, path));
  }

  /** Applies `edits`, runs `use`, and puts the files back. @throws Error where a search text is not as said */
  async mutated<T>(edits: readonly Edit[], use: () => Promise<T>): Promise<T> {
    const before = new Map<string, string>();
    try {
      for (const edit of edits) {
        const path = join(this.folder, edit.file);
        const text = readFileSync(path, "utf8");
        if (!before.has(path)) before.set(path, text);
        writeFileSync(path, applyEdit(text, edit));
      }
      return await use();
    } finally {
      for (const [path, text] of before) writeFileSync(path, text);
    }
  }

  /** How many tests that bear the name passed and failed; a fault outside them counts as neither. */
  async run(test: TestToFail): Promise<Ran> {
    const command =
      test.kind === "lint"
        ? [join(root, "node_modules/.bin/biome"), "lint", "--vcs-enabled=false", test.file]
        : [process.execPath, "test", `./${test.file}`, "-t", test.name.replace(/[^\w\s]/g, "."), "--timeout", "60000"];
    const run = Bun.spawn(command, {
      ...{ cwd: this.folder, stdin: "ignore", stdout: "pipe", stderr: "pipe" },
      ...{ timeout: runTimeoutMs, env: { ...process.env, NO_COLOR: "1" } },
    });
    const [stdout, stderr] = await Promise.all([new Response(run.stdout).text(), new Response(run.stderr).text()]);
    const status = await run.exited;
    const output = stdout + stderr;
    if (test.kind === "lint") {
      const isRefused = status !== 0 && output.includes("noRestrictedImports");
      return { passed: status === 0 ? 1 : 0, failed: isRefused ? 1 : 0, output };
    }
    const count = (word: string) =>
      output.split("\n").filter((line) => line.startsWith(`(${word}) `) && !line.includes("(unnamed)")).length;
    // One that never ends shows by no line.
    return { passed: count("pass"), failed: count("fail") + (run.signalCode === null ? 0 : 1), output };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
