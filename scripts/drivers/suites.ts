/** The test suites that come with drivers of PostgreSQL: how each is fetched into a temporary folder, and run. */
import { appendFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
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

const suiteTimeoutMs = 1_200_000;
const testTimeoutMs = 60_000;

const goEvent = z.object({ Action: z.string(), Package: z.string().optional(), Test: z.string().optional() });
const pythonEvent = z.object({ test: z.string(), outcome: z.enum(["pass", "fail", "skip"]) });

export const suites: readonly Suite[] = [
  goSuite({ name: "lib/pq", module: "github.com/lib/pq", version: "v1.12.3", variables: () => ({}) }),
  goSuite({
    ...{ name: "pgx", module: "github.com/jackc/pgx/v5", version: "v5.13.0" },
    variables: ({ PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE }) => ({
      PGX_TEST_DATABASE: `host=${PGHOST} port=${PGPORT} user=${PGUSER} password=${PGPASSWORD} dbname=${PGDATABASE} sslmode=disable`,
    }),
  }),
  pythonSuite({
    ...{ source: "psycopg2", module: "psycopg2-binary", version: "2.9.13", collect: "test_suite" },
    variables: ({ PGDATABASE = "" }) => ({ PSYCOPG2_TESTDB: PGDATABASE }),
  }),
  // Where PGHOST is set, it starts no server of its own.
  pythonSuite({
    ...{ source: "asyncpg", module: "asyncpg", version: "0.32.0", requires: ["distro==1.9.0"] },
    ...{ collect: "suite", variables: () => ({}) },
  }),
];

interface GoModule {
  readonly name: string;
  readonly module: string;
  readonly version: string;
  /** What it reads beside libpq's variables, which are given. */
  readonly variables: (environment: Record<string, string>) => Record<string, string>;
}

interface PythonPackage {
  /** The tests are in the source distribution only, the built module in the binary one only. */
  readonly source: string;
  readonly module: string;
  readonly version: string;
  /** What its tests need beside it. */
  readonly requires?: readonly string[];
  /** The function of `tests` that gives all of them. */
  readonly collect: string;
  readonly variables: (environment: Record<string, string>) => Record<string, string>;
}

function pythonSuite({ source, module, version, requires = [], collect, variables }: PythonPackage): Suite {
  return {
    name: source,
    async prepare(folder) {
      need("python3", `Python 3 with pip, for the suite of ${source}`);
      const pip = ["python3", "-m", "pip", "--quiet", "--disable-pip-version-check"];
      const ofSource = ["--no-deps", "--no-binary", source, `${source}==${version}`];
      await execute([...pip, "download", "--dest", ".", ...ofSource], folder);
      const archive = readdirSync(folder).find((name) => name.endsWith(".tar.gz"));
      if (archive === undefined) throw new Error(`pip downloaded no source distribution of ${source}`);
      // Without what else it has: a module that is not built would be found in the place of the one that is.
      const tests = ["--strip-components=1", "--directory=source", "--wildcards", "*/tests"];
      mkdirSync(join(folder, "source"));
      await execute(["tar", "--extract", `--file=${archive}`, ...tests], folder);
      const ofModule = ["--no-deps", "--only-binary", ":all:", `${module}==${version}`, ...requires];
      await execute([...pip, "install", "--target", "module", ...ofModule], folder);
    },
    async run(folder, environment, log) {
      writeFileSync(log, "");
      const command = ["python3", join(import.meta.dir, "results.py"), collect];
      const paths = [join(folder, "module"), join(folder, "source")].join(":");
      const python = { PYTHONPATH: paths, PYTHONDONTWRITEBYTECODE: "1" };
      const lines = await output(command, folder, { ...environment, ...python, ...variables(environment) }, log);
      return new Map(
        jsonLines(lines).flatMap((line) => {
          const event = pythonEvent.safeParse(line);
          return event.success ? [[event.data.test, event.data.outcome] as const] : [];
        }),
      );
    },
  };
}

interface GoTest {
  readonly packagePath: string;
  /** The test binary of its package, which runs in the package's own folder, where its data is. */
  readonly binary: string;
  readonly home: string;
  readonly name: string;
}

function goSuite({ name, module, version, variables }: GoModule): Suite {
  const binaries = "tests";

  /** What `prepare` built, test by test; some packages ask the server before they tell. */
  async function tests(folder: string, environment: Record<string, string>): Promise<readonly GoTest[]> {
    const packages = await execute(["go", "list", "-f", "{{.ImportPath}}\t{{.Dir}}", `${module}/...`], folder);
    const found: GoTest[] = [];
    for (const line of packages.trim().split("\n")) {
      const [packagePath = "", home = ""] = line.split("\t");
      const binary = join(folder, binaries, binaryName(packagePath));
      if (!existsSync(binary)) continue;
      const names = (await execute([binary, "-test.list=."], home, environment)).split("\n");
      const wanted = names.filter((one) => /^(Test|Example)/.test(one));
      found.push(...wanted.map((test) => ({ packagePath, binary, home, name: test })));
    }
    return found;
  }

  return {
    name,
    async prepare(folder) {
      need("go", `Go, for the suite of ${name}`);
      await execute(["go", "mod", "init", "suite"], folder);
      await execute(["go", "get", "-t", `${module}/...@${version}`], folder);
      const packages = (await execute(["go", "list", `${module}/...`], folder)).trim().split("\n");
      for (const path of packages) {
        await execute(["go", "test", "-c", "-o", join(binaries, binaryName(path)), path], folder);
      }
    },
    async run(folder, libpq, log) {
      writeFileSync(log, "");
      const environment = { ...libpq, ...variables(libpq) };
      const outcomes = new Map<string, Outcome>();
      for (const test of await tests(folder, environment)) {
        // A process for each: a panic in one (a notification that came late) would take the package's others along.
        const command = ["go", "tool", "test2json", "-p", test.packagePath, test.binary, "-test.v=test2json"];
        const chosen = [`-test.run=^${test.name}$`, `-test.timeout=${testTimeoutMs}ms`];
        const lines = await output([...command, ...chosen], test.home, environment, log);
        for (const [key, outcome] of jsonLines(lines).flatMap(goOutcome)) outcomes.set(key, outcome);
      }
      return outcomes;
    },
  };
}

/** Two packages may end in the same word. */
const binaryName = (packagePath: string) => `${packagePath.replaceAll("/", "_")}.test`;

function goOutcome(line: unknown): readonly (readonly [string, Outcome])[] {
  const event = goEvent.safeParse(line);
  if (!event.success || event.data.Test === undefined) return [];
  const { Action, Package, Test } = event.data;
  if (Action !== "pass" && Action !== "fail" && Action !== "skip") return [];
  // A temporary folder's number, which may be in a subtest's name, differs each time.
  return [[`${Package}.${Test.replace(/\d{6,}/g, "#")}`, Action]];
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

/** @returns what it printed. @throws Error where it fails. */
async function execute(command: string[], cwd: string, environment: Record<string, string> = {}): Promise<string> {
  const child = Bun.spawn(command, {
    ...{ cwd, env: { ...process.env, PATH: searchPath(), ...environment } },
    ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe" },
  });
  const [printed, errors, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (status !== 0) throw new Error(`${command.slice(0, 5).join(" ")} failed (${status}): ${errors.slice(-2_000)}`);
  return printed;
}

/** What the command printed, also added to `log`; one with failing tests ends with a status other than 0, which says nothing here. */
async function output(
  command: string[],
  cwd: string,
  environment: Record<string, string>,
  log: string,
): Promise<string> {
  const child = Bun.spawn(command, {
    ...{ cwd, env: { ...process.env, ...environment }, stdin: "ignore", stdout: "pipe", stderr: "inherit" },
    ...{ timeout: suiteTimeoutMs, killSignal: "SIGKILL" as const },
  });
  const text = await new Response(child.stdout).text();
  await child.exited;
  if (text.trim() === "") throw new Error(`${command.join(" ")} ended with ${child.exitCode} and no results`);
  appendFileSync(log, text);
  return text;
}
