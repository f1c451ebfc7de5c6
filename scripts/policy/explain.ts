/** `policy explain`: one command through the gateway's own analyser and compiled policy, and which rules decided. */
import { resolve } from "node:path";
import { escapeControls, jsonText } from "../../gateway/cli/terminal.ts";
import type { Obligations } from "../../gateway/policy/decision.ts";
import type { IdentityInput } from "../../gateway/policy/input.ts";
import { parseYamlText } from "../../gateway/yaml-text.ts";
import { SqlCatalog } from "./catalog/from-sql.ts";
import { optionsOfUrl, readLiveCatalog } from "./catalog/live.ts";
import { openDryRun } from "./dry-run.ts";
import { parseLine, WrongLine } from "./line.ts";
import { type Explained, recordedCommand } from "./recorded-command.ts";
import { locate, readRuleLocations } from "./rule-locations.ts";
import { policiesFolder } from "./sources.ts";
import { catalogOf, identityOf, identitySchema, loadPolicy } from "./subject.ts";

export const explainUsage = `usage: bun run policy explain '<sql>' --as <identity> --on <target> [options]
       bun run policy explain --session <id> --command <n> [--gateway <url>] [--store <url>] [--json]

  --as        an e-mail with --groups, or '{ email: a@example.com, groups: [analysts], kind: agent }'
  --groups    the identity's groups, separated by commas
  --agent     the identity is of kind agent
  --on        a target's name, as the policy's data has it
  --catalog   demo, a file of DDL (pg_dump --schema-only), or DDL itself (demo)
  --connect   postgres://… reads the catalog of a live database
  --param     a bound parameter's value; may be repeated
  --seen      this kind of command was run before (a new kind by an agent is held)
  --bundle, --data   another bundle, and a deployment's data (policies/, none)
  --json      everything, the whole input included`;

/** @returns the exit code: 0 whatever the verdict is, 1 where nothing could be judged, 2 for a wrong line. */
export async function explain(line: readonly string[]): Promise<number> {
  const { values, positionals } = parseLine(explainUsage, {
    args: [...line],
    allowPositionals: true,
    options: {
      as: { type: "string" },
      groups: { type: "string" },
      agent: { type: "boolean", default: false },
      on: { type: "string" },
      catalog: { type: "string", default: "demo" },
      connect: { type: "string" },
      param: { type: "string", multiple: true },
      seen: { type: "boolean", default: false },
      bundle: { type: "string" },
      data: { type: "string" },
      json: { type: "boolean", default: false },
      session: { type: "string" },
      command: { type: "string" },
      gateway: { type: "string" },
      store: { type: "string" },
    },
  });
  const show = (judged: Explained) => console.log(values.json ? jsonText(asJson(judged), 2) : asText(judged));
  const wrong = (problem: string) => new WrongLine(problem, explainUsage);
  if (values.session !== undefined || values.command !== undefined) {
    if (values.session === undefined || !/^[1-9][0-9]{0,8}$/.test(values.command ?? ""))
      throw wrong("a recorded command is --session <id> and --command <n>, its number in the session");
    show(await recordedCommand(values.session, Number(values.command), values));
    return 0;
  }
  const [sql] = positionals;
  if (sql === undefined || values.as === undefined || values.on === undefined)
    throw wrong("it needs '<sql>', --as and --on");
  const identity = readIdentity(values.as, values.groups, values.agent);
  const run = await openDryRun({
    policy: await loadPolicy({ bundle: values.bundle, data: values.data }),
    identity,
    target: { name: values.on, kind: "postgres", database: values.on, labels: {} },
    catalog: values.connect
      ? new SqlCatalog((await readLiveCatalog(optionsOfUrl(values.connect))).snapshot)
      : catalogOf(values.catalog, process.cwd()),
  });
  if (run.refused !== undefined) {
    // Nothing runs in a session that policy does not open.
    const rules = withPlaces(run.opened);
    const { verdict, revision } = run.opened;
    const lines = rules.flatMap(({ id, message, at }) => [`  ${id}: ${message}`, `    ${at ?? "no source at hand"}`]);
    console.log(
      values.json
        ? jsonText({ verdict, rules, masks: [], revision: revision.digest }, 2)
        : [`no session opens on ${values.on}`, "", `verdict   ${verdict}`, ...lines].map(escapeControls).join("\n"),
    );
    return 0;
  }
  const params = values.param;
  const judged = await run.run({ text: sql, ...(params && { params }), ...(values.seen && { novel: false }) });
  show(judged);
  return 0;
}

/** @param as an e-mail, or the identity in YAML */
function readIdentity(as: string, groups: string | undefined, agent: boolean): IdentityInput {
  const wrong = (problem: string) => new WrongLine(`--as: ${problem}`, explainUsage);
  const inYaml = () => {
    try {
      return parseYamlText(as).value;
    } catch (error) {
      throw wrong((error as Error).message);
    }
  };
  const given = as.trimStart().startsWith("{")
    ? inYaml()
    : { email: as, groups: groups?.split(",") ?? [], kind: agent ? "agent" : "human" };
  const { success, data, error } = identitySchema.safeParse(given);
  if (success) return identityOf(data);
  throw wrong(error.issues.map(({ path, message }) => [...path.map(String), message].join(": ")).join("; "));
}

function withPlaces({ verdict, rules }: Pick<Explained["intent"], "verdict" | "rules">) {
  const locations = readRuleLocations(policiesFolder);
  return rules.map((rule) => {
    const place = locate(locations, verdict, rule);
    return { ...rule, at: place === undefined ? null : resolve(policiesFolder, place) };
  });
}

function asJson({ intent, input }: Explained) {
  const { verdict, masks, diagnostics, approval, obligations, revision } = intent;
  return { verdict, rules: withPlaces(intent), masks, approval, obligations, diagnostics, revision, input };
}

function obligationLines({ limit, timeout, read_only, rates = [] }: Obligations = {}): string[] {
  return [
    ...(limit ? [`at most ${limit.rows} rows  (${limit.rule})`] : []),
    ...(timeout ? [`ended by the target after ${timeout.ms} ms  (${timeout.rule})`] : []),
    ...(read_only ? [`in a read-only transaction  (${read_only.rule})`] : []),
    ...rates.map(({ commands, per_ms, rule }) => `at most ${commands} commands in ${per_ms} ms  (${rule})`),
  ];
}

function asText({ intent, input }: Explained): string {
  const { command } = input;
  const lines: string[] = [];
  for (const one of command.statements) {
    const { verb, class: statementClass, bounded, limit } = one;
    lines.push(`${verb}  ${statementClass}${bounded ? "" : ", unbounded"}${limit === null ? "" : `, limit ${limit}`}`);
    for (const { schema, name, access } of one.relations) lines.push(`  ${access.padEnd(9)} ${schema}.${name}`);
    for (const { schema, table, column, labels, use } of one.columns) {
      lines.push(
        `  ${use.padEnd(9)} ${schema}.${table}.${column}${labels.length > 0 ? `  [${labels.join(", ")}]` : ""}`,
      );
    }
    if (one.functions.length > 0) lines.push(`  calls     ${one.functions.join(", ")}`);
    if (one.features.length > 0) lines.push(`  features  ${one.features.join(", ")}`);
  }
  for (const reason of command.incomplete) lines.push(`not understood: ${reason}`);
  if (command.novel) lines.push("a new kind of command for this identity");
  lines.push("", `verdict   ${intent.verdict}`);
  for (const { id, message, at } of withPlaces(intent))
    lines.push(`  ${id}: ${message}`, `    ${at ?? "no source at hand"}`);
  for (const mask of intent.masks) lines.push(`  mask ${mask.column} with ${mask.with}`);
  const { approval } = intent;
  if (approval) lines.push(`  approval by ${approval.count} of ${approval.from.join(", ")}, within ${approval.ttl}`);
  for (const obligation of obligationLines(intent.obligations)) lines.push(`  ${obligation}`);
  lines.push(`  errors are shown ${intent.diagnostics === "full" ? "in full" : "without values"}`);
  return lines.map(escapeControls).join("\n");
}
