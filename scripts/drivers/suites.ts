/** The test suites that come with drivers of PostgreSQL: how each is fetched into a temporary folder, and run. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

export type Outcome = "pass" | "fail" | "skip";

/** Test name to outcome; a test that ran and told nothing (a crash, a timeout) is absent. */
export type Outcomes = ReadonlyMap<string, Outcome>;

export interface Suite {
  readonly name: string;
  /** Fetches the suite into `folder`. @throws Error saying what the machine lacks. */
  prepare(folder: string): Promise<void>;
  /**
   * @param environment libpq's variables.
   * @param log the file that gets what the suite prints.
   */
  run(folder: string, environment: Record<string, string>, log: string): Promise<Outcomes>;
}

const libPqVersion = "v1.12.3";
const psycopg2Version = "2.9.13";
const suiteTimeoutMs = 1_200_000;

const goEvent = z.object({ Action: z.string(), Package: z.string().optional(), Test: z.string().optional() });
const pythonEvent = z.object({ test: z.string(), outcome: z.enum(["pass", "fail", "skip"]) });

export const suites: readonly Suite[] = [
  {
    name: "lib/pq",
    async prepare(folder) {
      need("go", "Go, for the suite of lib/pq");
      await execute(["go", "mod", "init", "suite"], folder);
      await execute(["go", "get", `github.com/lib/pq@${libPqVersion}`], folder);
    },
    async run(folder, environment, log) {
      const command = ["go", "test", "-json", "-count=1", "-p=1", "-timeout=9m", "github.com/lib/pq/..."];
      return new Map(jsonLines(await output(command, folder, environment, log)).flatMap(goOutcome));
    },
  },
  {
    name: "psycopg2",
    async prepare(folder) {
      need("python3", "Python 3 with pip, for the suite of psycopg2");
      const pip = ["python3", "-m", "pip", "--quiet", "--disable-pip-version-check"];
      // The tests are in the source distribution only; the built module in the binary one only.
      const source = ["--no-deps", "--no-binary", "psycopg2", `psycopg2==${psycopg2Version}`];
      await execute([...pip, "download", "--dest", ".", ...source], folder);
      const archive = readdirSync(folder).find((name) => name.endsWith(".tar.gz"));
      if (archive === undefined) throw new Error("pip downloaded no source distribution of psycopg2");
      mkdirSync(join(folder, "source"));
      await execute(["tar", "--extract", "--strip-components=1", "--directory=source", `--file=${archive}`], folder);
      const module = ["--no-deps", "--only-binary", ":all:", `psycopg2-binary==${psycopg2Version}`];
      await execute([...pip, "install", "--target", "module", ...module], folder);
    },
    async run(folder, environment, log) {
      const command = ["python3", join(import.meta.dir, "results.py")];
      const paths = [join(folder, "module"), join(folder, "source")].join(":");
      const database = environment.PGDATABASE ?? "";
      const variables = { PYTHONPATH: paths, PYTHONDONTWRITEBYTECODE: "1", PSYCOPG2_TESTDB: database };
      const lines = await output(command, folder, { ...environment, ...variables }, log);
      return new Map(
        jsonLines(lines).flatMap((line) => {
          const event = pythonEvent.safeParse(line);
          return event.success ? [[event.data.test, event.data.outcome] as const] : [];
        }),
      );
    },
  },
];

function goOutcome(line: unknown): readonly (readonly [string, Outcome])[] {
  const event = goEvent.safeParse(line);
  if (!event.success || event.data.Test === undefined) return [];
  const { Action, Package, Test } = event.data;
  if (Action !== "pass" && Action !== "fail" && Action !== "skip") return [];
  return [[`${Package}.${Test}`, Action]];
}

function jsonLines(text: string): readonly unknown[] {
  return text.split("\n").flatMap((line) => {
    if (!line.startsWith("{")) return [];
    try {
      return [JSON.parse(line) as unknown];
    } catch {
      return [];
    }
  });
}

function need(program: string, what: string): void {
  if (Bun.which(program) === null) throw new Error(`needs ${what}: ${program} is not on PATH`);
}

/** Debian keeps pg_config, which psycopg2's packaging asks for, off PATH. */
function searchPath(): string {
  const debian = "/usr/lib/postgresql/15/bin";
  return `${process.env.PATH ?? "/usr/bin:/bin"}${existsSync(debian) ? `:${debian}` : ""}`;
}

async function execute(command: string[], cwd: string): Promise<void> {
  const child = Bun.spawn(command, {
    ...{ cwd, env: { ...process.env, PATH: searchPath() }, stdin: "ignore", stdout: "ignore", stderr: "pipe" },
  });
  const [errors, status] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  if (status !== 0) throw new Error(`${command.slice(0, 5).join(" ")} failed (${status}): ${errors.slice(-2_000)}`);
}

/** What the command printed; a suite with failing tests ends with a status other than 0, which says nothing here. */
async function output(
  command: string[],
  cwd: string,
  environment: Record<string, string>,
  log: string,
): Promise<string> {
  // A file given as standard output is not cut: what an earlier run left would be read as this one's.
  rmSync(log, { force: true });
  const child = Bun.spawn(command, {
    ...{ cwd, env: { ...process.env, ...environment }, stdin: "ignore", stdout: Bun.file(log), stderr: "inherit" },
    ...{ timeout: suiteTimeoutMs, killSignal: "SIGKILL" as const },
  });
  await child.exited;
  const text = readFileSync(log, "utf8");
  if (text.trim() === "") throw new Error(`${command.join(" ")} ended with ${child.exitCode} and no results`);
  return text;
}
