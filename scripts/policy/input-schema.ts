/**
 * The policy's input as a JSON schema (`policies/input.schema.json`), by which `opa check` finds a misspelt path.
 * The types of `gateway/policy/input.ts` are the contract; the compiler holds this to them, both ways.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { type CommandInput, statementClasses } from "../../gateway/policy/input.ts";

const statement = z.strictObject({
  verb: z.string(),
  class: z.enum(statementClasses),
  relations: z.array(
    z.strictObject({
      schema: z.string(),
      name: z.string(),
      access: z.enum(["read", "write", "ddl"]),
      labels: z.array(z.string()),
    }),
  ),
  columns: z.array(
    z.strictObject({
      schema: z.string(),
      table: z.string(),
      column: z.string(),
      labels: z.array(z.string()),
      use: z.enum(["output", "derived", "predicate", "order", "write"]),
    }),
  ),
  functions: z.array(z.string()),
  bounded: z.boolean(),
  limit: z.number().nullable(),
  features: z.array(z.string()),
});
const schema = z.strictObject({
  identity: z.strictObject({
    issuer: z.string(),
    subject: z.string(),
    email: z.string(),
    groups: z.array(z.string()),
    kind: z.enum(["human", "agent"]),
    claims: z.record(z.string(), z.unknown()),
  }),
  target: z.strictObject({
    name: z.string(),
    kind: z.string(),
    database: z.string(),
    labels: z.record(z.string(), z.string()),
  }),
  session: z.strictObject({
    id: z.string(),
    client: z.strictObject({ address: z.string(), application: z.string() }),
    context: z.strictObject({ reason: z.string(), prompt: z.string(), ticket: z.string(), trace: z.string() }),
  }),
  command: z.strictObject({
    kind: z.literal("sql"),
    digest: z.string(),
    fingerprint: z.string(),
    novel: z.boolean(),
    complete: z.boolean(),
    incomplete: z.array(z.string()),
    params: z.array(z.string().nullable()),
    statements: z.array(statement),
  }),
  now: z.strictObject({ rfc3339: z.string(), weekday: z.string(), hour: z.int(), time: z.string() }),
});

type Frozen<T> = T extends object ? { readonly [K in keyof T]: Frozen<T[K]> } : T;
type Described = Frozen<z.infer<typeof schema>>;
/** Neither has a field, or a value of one, that the other has not. */
type Same<A, B> = [A, B] extends [B, A] ? true : never;
true satisfies Same<Described, CommandInput>;

export const inputSchemaFile = "input.schema.json";

export function inputSchemaText(): string {
  return `${JSON.stringify(z.toJSONSchema(schema, { target: "draft-7" }), undefined, 2)}\n`;
}

/** @param folder of the policies. */
export function writeInputSchema(folder: string): void {
  writeFileSync(join(folder, inputSchemaFile), inputSchemaText());
}
