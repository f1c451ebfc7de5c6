/** The form of a fixture file (`fixtures/sessions/*.yaml`): sessions, their steps, and what policy must say of each. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { z } from "zod";
import { parseYamlText, YamlSyntaxError, type YamlText } from "../../../gateway/yaml-text.ts";
import { identitySchema } from "../subject.ts";

const expectation = z
  .string()
  .regex(
    /^(allow|deny|mask|approve)( [\w.-]+)*$/,
    'a verdict and the ids of its rules, such as "deny writes.unbounded"',
  );
const step = z.strictObject({
  run: z.string(),
  /** Given: the extended protocol (Parse, Bind, Execute). */
  params: z.array(z.string().nullable()).optional(),
  /** People approve it where it is held; else they deny it. */
  approved: z.boolean().default(false),
  novel: z.boolean().optional(),
  /** What policy sees instead, by path: `{ command.novel: null }`. For what no analysis gives. */
  input: z.record(z.string(), z.json()).optional(),
  expect: expectation,
  /** All masks, by column. */
  masks: z.record(z.string(), z.string()).optional(),
  /** A part of a rule's message. */
  says: z.string().optional(),
  /** Whether errors reach the caller as the target wrote them. */
  errors: z.enum(["full", "canonical"]).optional(),
  approval: z.strictObject({ from: z.array(z.string()), count: z.int(), ttl: z.string() }).optional(),
  /** All obligations, as `explain` shows them: `{ limit: 100, timeout: 30000, read_only: true, rates: [60 in 60000] }`. */
  obligations: z
    .strictObject({ limit: z.int(), timeout: z.int(), read_only: z.literal(true), rates: z.array(z.string()) })
    .partial()
    .optional(),
});
const session = z.strictObject({
  as: identitySchema,
  target: z.union([
    z.string(),
    z.strictObject({
      name: z.string(),
      database: z.string(),
      labels: z.record(z.string(), z.string()).default({}),
    }),
  ]),
  /** demo, a file (.sql, .json), DDL, or a list: the first, then DDL over it. */
  catalog: z.union([z.string(), z.array(z.string()).min(1)]).default("demo"),
  /** A deployment's data, merged over the bundle's; null takes a key away. */
  data: z.record(z.string(), z.json()).optional(),
  /** false: the gateway refuses to load this data; its steps are what rules say of it in an engine that did. */
  loads: z.boolean().default(true),
  context: z
    .strictObject({ reason: z.string(), prompt: z.string(), ticket: z.string(), trace: z.string() })
    .partial()
    .optional(),
  /** The time that policies see: a Monday's noon unless it is given, so that a fixture says the same at any time. */
  at: z.iso.datetime().default("2026-01-05T12:00:00Z"),
  /** Whether kinds of command are new to the identity; not given: as the session's own past says. */
  novel: z.boolean().optional(),
  /** What is said of opening the session. */
  opens: expectation.default("allow"),
  steps: z.array(step).default([]),
});
const shape = z.strictObject({ sessions: z.record(z.string(), session) });

export type FixtureStep = z.infer<typeof step>;
export type FixtureSession = z.infer<typeof session>;

export interface Fixture {
  readonly path: string;
  readonly sessions: readonly (FixtureSession & { readonly name: string })[];
  /** The line of a session, or of one of its steps. */
  line(session: string, step?: number): number;
}

function readYaml(path: string): YamlText {
  try {
    return parseYamlText(readFileSync(path, "utf8"));
  } catch (error) {
    if (!(error instanceof YamlSyntaxError)) throw error;
    throw new Error(`${path}:${error.line}: ${error.message}`);
  }
}

/** @throws Error with file, line and what was expected there */
export function readFixture(path: string): Fixture {
  const { value, lineOf: line } = readYaml(path);
  const checked = shape.safeParse(value);
  if (!checked.success) {
    const issue = checked.error.issues[0];
    throw new Error(`${path}:${line(issue?.path ?? [])}: ${(issue?.path ?? []).join(".")}: ${issue?.message}`);
  }
  return {
    path,
    sessions: Object.entries(checked.data.sessions).map(([name, one]) => ({ name, ...one })),
    line: (name, number) => line(number === undefined ? ["sessions", name] : ["sessions", name, "steps", number]),
  };
}

export const fixturesFolder = resolve(import.meta.dir, "../../../fixtures/sessions");

/** @param given files and folders; the fixtures' own folder when there is none. @throws Error where one is not there */
export function fixturePaths(given: readonly string[]): string[] {
  const roots = given.length > 0 ? given.map((path) => resolve(path)) : [fixturesFolder];
  return roots.flatMap((path) => {
    if (!existsSync(path)) throw new Error(`no fixture file or folder ${relative(process.cwd(), path)}`);
    if (!statSync(path).isDirectory()) return [path];
    const names = readdirSync(path, { recursive: true, encoding: "utf8" }).filter((name) => /\.ya?ml$/.test(name));
    if (names.length === 0) throw new Error(`no fixtures (*.yaml) in ${relative(process.cwd(), path)}`);
    return names.sort().map((name) => join(path, name));
  });
}
