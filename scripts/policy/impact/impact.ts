/** `policy impact`: what another revision of the policy would have made of the commands that were recorded. */
import { createWriteStream } from "node:fs";
import { parseArgs } from "node:util";
import { parseTime } from "../../../gateway/cli/sessions.ts";
import { type ChangeKind, changeKinds } from "./changes.ts";
import { asJson, asMarkdown, asText } from "./format.ts";
import { judgeStore } from "./judge-store.ts";
import { exitCodes, gate, type Impact } from "./outcome.ts";
import { showProgress } from "./progress.ts";
import { pastDataWith, resolveRevision, resolveStore } from "./resolve-setup.ts";
import { openStoreReader } from "./store-reader.ts";

const formats = { text: asText, markdown: asMarkdown, json: asJson };

export const impactUsage = `usage: bun run policy impact --base <git ref|bundle> (--store <file or url> | --config gateway.yaml) [options]

  --head       a git ref or a bundle (the working tree)
  --data       a deployment's data over both (that of --config); --base-data: another over the base
  --since      a date, an RFC 3339 time, or an age such as 30d (everything recorded)
  --catalog    <target>=<file>, as \`policy catalog\` writes it or DDL: labels that flow through views are certain then
  --format     text, markdown (a comment on a pull request) or json
  --examples   how many kinds of command to show of each kind of change (5)
  --changes    a file that each change is written to, one line of JSON each
  --fail-on    kinds of change, separated by commas: exit code 3 where there is one, 4 where that is not certain
  --threads    how many (one a core)

Kinds of change:
${Object.entries(changeKinds)
  .map(([kind, meaning]) => `  ${kind.padEnd(10)} ${meaning}`)
  .join("\n")}`;

class UsageError extends Error {}

function readLine(line: readonly string[]) {
  try {
    return parseArgs({
      args: [...line],
      options: {
        base: { type: "string" },
        head: { type: "string" },
        data: { type: "string" },
        "base-data": { type: "string" },
        since: { type: "string" },
        store: { type: "string" },
        config: { type: "string" },
        catalog: { type: "string", multiple: true },
        format: { type: "string", default: "text" },
        examples: { type: "string", default: "5" },
        changes: { type: "string" },
        "fail-on": { type: "string", multiple: true },
        threads: { type: "string" },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function kindsIn(given: readonly string[]): ChangeKind[] {
  return given
    .flatMap((list) => list.split(","))
    .map((name) => {
      if (!Object.hasOwn(changeKinds, name)) throw new UsageError(`--fail-on: no kind of change "${name}"`);
      return name as ChangeKind;
    });
}

function wholeNumber(name: string, text: string): number {
  if (!/^[0-9]{1,5}$/.test(text)) throw new UsageError(`--${name} is a whole number`);
  return Number(text);
}

/** @returns an exit code of `outcome.ts` */
export async function impact(line: readonly string[]): Promise<number> {
  try {
    return await run(readLine(line));
  } catch (error) {
    const isUsage = error instanceof UsageError || (error as Error).name === "UsageError";
    console.error(
      isUsage ? `${(error as Error).message}\n\n${impactUsage}` : `policy impact: ${(error as Error).message}`,
    );
    return isUsage ? exitCodes.usage : exitCodes.failed;
  }
}

async function run(values: ReturnType<typeof readLine>): Promise<number> {
  if (values.base === undefined) throw new UsageError("--base is missing");
  if (!Object.hasOwn(formats, values.format)) throw new UsageError(`no format "${values.format}"`);
  const format = formats[values.format as keyof typeof formats];
  const failOn = kindsIn(values["fail-on"] ?? []);
  const examplesMax = wholeNumber("examples", values.examples);
  const threads = values.threads === undefined ? undefined : wholeNumber("threads", values.threads);
  const since = parseTime("since", values.since, Date.now());
  const sinceMs = since === undefined ? 0 : Date.parse(since);
  const catalogs = Object.fromEntries(
    (values.catalog ?? []).map((given) => {
      const at = given.indexOf("=");
      if (at < 1) throw new UsageError("--catalog is <target>=<file>");
      return [given.slice(0, at), given.slice(at + 1)];
    }),
  );
  const { store, data } = resolveStore(values);
  const baseData = values["base-data"] ?? data;
  const [base, head] = [await resolveRevision(values.base, baseData), await resolveRevision(values.head, data)];
  const commits = [base.commit, head.commit].filter((commit) => commit !== undefined);
  const pastData = await pastDataWith(commits, [data, baseData]);
  const reader = await openStoreReader(store);
  const size = await reader.size(sinceMs);
  reader.close();
  const listed = values.changes === undefined ? undefined : createWriteStream(values.changes, { mode: 0o600 });
  const failure = new Promise<never>((_, reject) => listed?.on("error", reject));
  failure.catch(() => undefined);
  const progress = showProgress(process.stderr, size.commands);
  const startedAt = performance.now();
  const judged = judgeStore(
    { base: base.bundle, head: head.bundle, pastData, catalogs, store, sinceMs, eachChange: listed !== undefined },
    {
      progress: progress.add,
      changes: (changes) => {
        for (const change of changes) listed?.write(`${JSON.stringify(change)}\n`);
      },
    },
    threads,
  );
  const tally = await Promise.race([judged, failure]).finally(progress.end);
  await Promise.race([new Promise<void>((resolve) => (listed ? listed.end(resolve) : resolve())), failure]);
  const outcome: Impact = {
    base: { name: base.name, digest: base.bundle.revision.digest },
    head: { name: head.name, digest: head.bundle.revision.digest },
    since,
    tally,
    elapsedMs: performance.now() - startedAt,
  };
  const gated = gate(outcome, failOn);
  process.stdout.write(format(outcome, gated, examplesMax));
  return gated.exitCode;
}
