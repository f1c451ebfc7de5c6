/** `sallyport verify`: recomputes the hash chain of recordings. */
import { z } from "zod";
import { type Command, exitCodes, gatewayOptions, type Invocation, storeOption, UsageError } from "./command.ts";
import { type Recordings, withRecordings } from "./recordings.ts";
import { escapeControls, paint, printJson } from "./terminal.ts";

const reportSchema = z.looseObject({
  ok: z.boolean(),
  problem: z.string().nullish(),
  events: z.number().nullish(),
  signatureChecked: z.boolean().nullish(),
});
const pageSize = 500;

export const verifyCommand: Command = {
  name: "verify",
  summary: "Recomputes the hash chain of a recording, or of all that you may see; exit code 5 if one fails.",
  synopsis: "<id> | --all [options]",
  options: {
    all: { type: "boolean", help: "every session that you may see" },
    ...gatewayOptions,
    ...storeOption,
    key: { type: "string", value: "file", help: "with --store: the key of the seals, PEM (<store>.key)" },
  },
  positionals: { min: 0, max: 1 },
  async run(invocation) {
    const [id] = invocation.positionals;
    const all = invocation.values.all === true;
    if ((id === undefined) !== all) throw new UsageError("it needs an id, or --all, and not both");
    // The gateway checks with its own.
    if (invocation.values.key !== undefined && invocation.values.store === undefined)
      throw new UsageError("--key is for --store");
    return await withRecordings(invocation, async (recordings) => {
      const ids = id === undefined ? everySession(recordings) : [id];
      return await verifyEach(invocation, recordings, ids);
    });
  },
};

async function* everySession(recordings: Recordings): AsyncGenerator<string> {
  let before: string | undefined;
  do {
    const page = await recordings.list({ limit: pageSize, before });
    for (const session of page.sessions) yield session.id;
    before = page.next ?? undefined;
  } while (before !== undefined);
  yield* (await recordings.missing?.()) ?? [];
}

async function verifyEach(
  { terminal, values }: Invocation,
  recordings: Recordings,
  ids: Iterable<string> | AsyncIterable<string>,
): Promise<number> {
  const reports: unknown[] = [];
  let failures = 0;
  let count = 0;
  let unchecked = false;
  for await (const id of ids) {
    const report = reportSchema.parse(await recordings.verify(id, values.all === true));
    count += 1;
    if (!report.ok) failures += 1;
    if (report.signatureChecked === false) unchecked = true;
    if (values.json === true) {
      reports.push({ session: id, ...report });
      continue;
    }
    const word = report.ok ? paint(terminal, "green", "ok    ") : paint(terminal, "red", "FAILED");
    const detail = report.ok ? `${report.events ?? "?"} events` : (report.problem ?? "the chain is broken");
    terminal.out(`${word} ${escapeControls(id)}  ${escapeControls(detail)}\n`);
  }
  const problems = values.all === true ? await recordings.problems?.() : undefined;
  for (const [what, problem] of Object.entries(problems ?? {})) {
    if (problem === undefined) continue;
    failures += 1;
    if (values.json === true) reports.push({ session: null, ok: false, problem });
    else terminal.out(`${paint(terminal, "red", "FAILED")} ${what}  ${escapeControls(problem)}\n`);
  }
  if (values.json === true) printJson(terminal, values.all === true ? reports : reports[0]);
  else if (values.all === true) terminal.err(`${count} verified, ${failures} failed.\n`);
  if (unchecked) terminal.err("The signatures of the seals were not checked: there is no key.\n");
  return failures === 0 ? exitCodes.ok : exitCodes.tampered;
}
