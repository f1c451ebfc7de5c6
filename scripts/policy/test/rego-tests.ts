/** Rego's own unit tests (`*_test.rego` beside the rules), run by `opa test`, and which lines of the rules they reach. */
import { z } from "zod";
import { resolveOpa } from "../toolchain.ts";

export interface RegoTest {
  readonly file: string;
  readonly name: string;
  readonly line: number;
  readonly seconds: number;
  readonly failure: string | undefined;
}

export interface FileCoverage {
  readonly file: string;
  readonly covered: number;
  readonly lines: number;
  /** "10-12", in order. */
  readonly missed: readonly string[];
}

const testsSchema = z.array(
  z.looseObject({
    location: z.looseObject({ file: z.string(), row: z.number() }),
    name: z.string(),
    /** Nanoseconds. */
    duration: z.number().default(0),
    fail: z.unknown().optional(),
    error: z.unknown().optional(),
  }),
);
const place = z.looseObject({ row: z.number() });
const coverageSchema = z.looseObject({
  files: z.record(
    z.string(),
    z.looseObject({
      covered_lines: z.number().default(0),
      not_covered_lines: z.number().default(0),
      not_covered: z.array(z.looseObject({ start: place, end: place })).default([]),
    }),
  ),
});

/** OPA's own, 5 s, is for a machine that does nothing else. */
const testTimeout = "60s";

/** @returns what it printed, "" and its messages where it could not test at all. */
async function opaTest(folder: string, ...options: string[]): Promise<{ printed: string; messages: string }> {
  const command = [
    resolveOpa(),
    "test",
    "--ignore",
    "dist",
    "--timeout",
    testTimeout,
    "--format",
    "json",
    ...options,
    ".",
  ];
  const run = Bun.spawn(command, { cwd: folder, stdout: "pipe", stderr: "pipe" });
  const [printed, messages] = await Promise.all([new Response(run.stdout).text(), new Response(run.stderr).text()]);
  await run.exited;
  return { printed, messages };
}

/** @throws Error with OPA's own message where the sources do not compile. */
export async function runRegoTests(folder: string): Promise<RegoTest[]> {
  const { printed, messages } = await opaTest(folder);
  const tests = testsSchema.safeParse(parseJson(printed));
  if (!tests.success) throw new Error(`opa test: ${messages || printed}`.trim());
  return tests.data
    .map(({ location, name, duration, fail, error }) => ({
      file: location.file,
      name,
      line: location.row,
      seconds: duration / 1e9,
      failure: error ? JSON.stringify(error) : fail ? "failed" : undefined,
    }))
    .sort((a, b) => (a.file === b.file ? a.line - b.line : a.file < b.file ? -1 : 1));
}

/** Of the rules, without the tests themselves. @throws Error where a test fails: OPA measures nothing then. */
export async function regoCoverage(folder: string): Promise<FileCoverage[]> {
  const { printed, messages } = await opaTest(folder, "--coverage");
  const coverage = coverageSchema.safeParse(parseJson(printed));
  if (!coverage.success) throw new Error(`opa test --coverage: ${messages || printed}`.trim());
  return Object.entries(coverage.data.files)
    .filter(([file]) => !file.endsWith("_test.rego"))
    .map(([file, { covered_lines: covered, not_covered_lines: missed, not_covered: ranges }]) => ({
      file,
      covered,
      lines: covered + missed,
      missed: ranges.map(({ start, end }) => (start.row === end.row ? `${start.row}` : `${start.row}-${end.row}`)),
    }))
    .sort((a, b) => (a.file < b.file ? -1 : 1));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** In percent, of all files. */
export function totalCoverage(files: readonly FileCoverage[]): number {
  const sum = (of: (file: FileCoverage) => number) => files.reduce((total, file) => total + of(file), 0);
  return (
    (100 * sum(({ covered }) => covered)) /
    Math.max(
      1,
      sum(({ lines }) => lines),
    )
  );
}

export function coverageTable(files: readonly FileCoverage[]): string {
  const width = Math.max(5, ...files.map(({ file }) => file.length));
  const row = (name: string, percent: number, rest: string) =>
    `${name.padEnd(width)}  ${percent.toFixed(1).padStart(5)} %${rest}`;
  const rows = files.map(({ file, covered, lines, missed }) =>
    row(file, (100 * covered) / lines, missed.length > 0 ? `  not reached: ${[...new Set(missed)].join(", ")}` : ""),
  );
  return [...rows, row("total", totalCoverage(files), "")].join("\n");
}
