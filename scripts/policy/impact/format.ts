/** An impact as text for a terminal, as Markdown for a comment on a pull request, or as JSON. */
import { type ChangeKind, changeKinds } from "./changes.ts";
import { doubts, type Gate, type Impact } from "./outcome.ts";
import { codeSpan, oneLine } from "./printable.ts";
import { type Example, type KindTally, ranked, rankedExamples } from "./tally.ts";

const kindsOf = (impact: Impact) =>
  (Object.keys(changeKinds) as ChangeKind[]).flatMap((kind) => {
    const of = impact.tally.kinds[kind];
    return of === undefined ? [] : ([[kind, of]] as const);
  });

const number = (value: number) => value.toLocaleString("en");
const short = (digest: string) => digest.replace(/^sha256:/, "").slice(0, 12);
const plural = (count: number, one: string) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;

function amount(of: KindTally): string {
  if (of.sessions === 0) return plural(of.commands, "command");
  return `${plural(of.commands, "command")}, ${plural(of.sessions, "session")}`;
}

/** Lines that hold for the whole, in words. */
function summary(impact: Impact): string[] {
  const { tally, elapsedMs } = impact;
  const rate = Math.round((tally.commands / Math.max(1, elapsedMs)) * 1_000);
  const lines = [
    `${plural(tally.commands, "recorded command")} of ${plural(tally.sessions, "session")} judged by both, ${number(rate)} a second; ${plural(tally.changed, "command")} would be decided otherwise.`,
  ];
  if (tally.reproduced > 0 || tally.drifted > 0)
    lines.push(
      `${number(tally.reproduced)} decisions came again as recorded under their own revision, ${number(tally.drifted)} did not.`,
    );
  if (tally.openSessions > 0) lines.push(`${plural(tally.openSessions, "session")} still open: judged up to now.`);
  if (tally.labelsAssumed > 0)
    lines.push(
      `${plural(tally.labelsAssumed, "command")} recorded under revisions whose data is not at hand: their labels are those of the names in each revision, and what was recorded elsewhere.`,
    );
  if (tally.possibleCommands > 0) {
    const kinds = Object.entries(tally.possible).map(([kind, count]) => `${kind} ${number(count)}`);
    lines.push(
      `${plural(tally.possibleCommands, "command")} read columns that a label may or may not reach through a view, a child or a generated column, which a recording does not tell (possible: ${kinds.join(", ")}). Give --catalog to be certain.`,
    );
  }
  return lines;
}

const maskText = ({ masks }: Example) => masks.map(({ column, base, head }) => `${column}: ${base} → ${head}`);

export function asText(impact: Impact, gated: Gate, examplesMax: number): string {
  const { base, head, tally } = impact;
  const lines = [
    `base  ${oneLine(base.name, 200)}  ${short(base.digest)}`,
    `head  ${oneLine(head.name, 200)}  ${short(head.digest)}`,
    ...(impact.since === undefined ? [] : [`since ${impact.since}`]),
    "",
    ...summary(impact),
  ];
  const top = (title: string, counts: KindTally["rules"]) => {
    const all = ranked(counts);
    for (const [name, count] of all.slice(0, 10))
      lines.push(`  ${title.padEnd(8)} ${number(count).padStart(9)}  ${oneLine(name, 200)}`);
    if (all.length > 10) lines.push(`  ${title.padEnd(8)}            and ${number(all.length - 10)} more`);
  };
  for (const [kind, of] of kindsOf(impact)) {
    lines.push("", `${kind}: ${amount(of)} (${changeKinds[kind]})`);
    top("rule", of.rules);
    top("identity", of.identities);
    top("column", of.columns);
    const examples = rankedExamples(of);
    for (const one of examples.slice(0, examplesMax)) {
      lines.push(
        `  ${number(one.commands)} × ${one.base} → ${one.head} on ${oneLine(one.target, 100)}: ${oneLine(one.text, 300)}`,
        `      ${oneLine(one.who, 200)}${one.agent ? " (agent)" : ""}, session ${oneLine(one.session, 64)} command ${one.command}; ${[...one.rules, ...maskText(one)].map((text) => oneLine(text, 200)).join(", ")}`,
      );
    }
    const more = examples.length - Math.min(examplesMax, examples.length);
    if (more > 0 || of.further > 0)
      lines.push(
        `  and ${number(more)} more kinds of command${of.further > 0 ? `, and ${number(of.further)} further commands` : ""}`,
      );
  }
  for (const { session, problem } of tally.unreadable)
    lines.push(`not read: session ${oneLine(session, 64)}: ${oneLine(problem, 300)}`);
  for (const one of tally.drifts)
    lines.push(
      `drift: session ${oneLine(one.session, 64)} command ${one.command}, revision ${short(one.revision)}: recorded ${oneLine(one.recorded, 200)}; now ${oneLine(one.again, 200)}`,
    );
  for (const doubt of doubts(impact)) lines.push(`not complete: ${doubt}`);
  for (const reason of gated.reasons) lines.push(`gate: ${reason}`);
  return `${lines.join("\n")}\n`;
}

/** Where a comment is made of it: a host takes 65,536 characters. */
const markdownMax = 60_000;
/** A job finds its own comment by it. */
const marker = "<!-- sallyport policy impact -->";

export function asMarkdown(impact: Impact, gated: Gate, examplesMax: number): string {
  const { base, head, tally } = impact;
  const parts: string[] = [
    marker,
    "### Policy impact on recorded commands",
    "",
    `base ${codeSpan(base.name, 100)} ${codeSpan(short(base.digest), 20)}, head ${codeSpan(head.name, 100)} ${codeSpan(short(head.digest), 20)}${impact.since === undefined ? "" : `, since ${impact.since}`}`,
    "",
    ...summary(impact).flatMap((line) => [`- ${line}`]),
    "",
  ];
  const kinds = kindsOf(impact);
  if (kinds.length > 0) {
    parts.push("| change | commands | |", "| --- | ---: | --- |");
    for (const [kind, of] of kinds) parts.push(`| **${kind}** | ${amount(of)} | ${changeKinds[kind]} |`);
    parts.push("");
  }
  for (const reason of gated.reasons) parts.push(`- ❌ ${reason}`);
  for (const doubt of doubts(impact)) parts.push(`- ⚠️ ${doubt}`);
  parts.push("");
  let length = parts.join("\n").length;
  let left = false;
  /** A block is there as a whole or not at all. */
  const fold = (title: string, body: readonly string[]) => {
    const block = ["<details>", `<summary>${title}</summary>`, "", ...body, "", "</details>", ""];
    const size = block.join("\n").length + 1;
    if (length + size > markdownMax) {
      left = true;
      return;
    }
    length += size;
    parts.push(...block);
  };
  const list = (title: string, counts: KindTally["rules"]) => {
    const all = ranked(counts);
    if (all.length === 0) return [];
    const more = all.length > 10 ? [`- and ${number(all.length - 10)} more`] : [];
    return [
      `By ${title}:`,
      "",
      ...all.slice(0, 10).map(([name, count]) => `- ${number(count)} × ${codeSpan(name, 200)}`),
      ...more,
      "",
    ];
  };
  for (const [kind, of] of kinds) {
    const examples = rankedExamples(of);
    const shown = examples
      .slice(0, examplesMax)
      .flatMap((one) => [
        `- ${number(one.commands)} × ${one.base} → ${one.head} on ${codeSpan(one.target, 100)}: ${codeSpan(one.text, 300)}`,
        `  ${codeSpan(`${one.who}${one.agent ? " (agent)" : ""}`, 120)}, session ${codeSpan(one.session, 64)} command ${one.command}; ${[...one.rules, ...maskText(one)].map((text) => codeSpan(text, 200)).join(", ")}`,
      ]);
    const more = examples.length - Math.min(examples.length, examplesMax);
    fold(`${kind}: ${amount(of)}`, [
      ...list("rule", of.rules),
      ...list("identity", of.identities),
      ...list("column", of.columns),
      ...(shown.length > 0 ? ["Examples:", "", ...shown] : []),
      ...(more > 0 ? [`- and ${number(more)} more kinds of command`] : []),
    ]);
  }
  const unread = tally.unreadable.map(
    ({ session, problem }) => `- session ${codeSpan(session, 64)}: ${codeSpan(problem, 300)}`,
  );
  if (unread.length > 0) fold(`not read: ${number(tally.unreadableSessions)}`, unread.slice(0, 20));
  const drifts = tally.drifts.map(
    (one) =>
      `- session ${codeSpan(one.session, 64)} command ${one.command}, revision ${codeSpan(short(one.revision), 20)}: recorded ${codeSpan(one.recorded, 200)}, now ${codeSpan(one.again, 200)}`,
  );
  if (drifts.length > 0) fold(`drift: ${number(tally.drifted)}`, drifts.slice(0, 20));
  if (left) parts.push("Some of it is left out for its length; `--format text` has all.", "");
  return parts.join("\n");
}

export function asJson(impact: Impact, gated: Gate, examplesMax: number): string {
  const { tally, ...rest } = impact;
  const { kinds: _, ...counts } = tally;
  const kinds = kindsOf(impact).map(([kind, of]) => {
    const examples = rankedExamples(of).map(({ key: __, ...example }) => example);
    const { rules, identities, columns, commands, sessions } = of;
    return { kind, commands, sessions, rules, identities, columns, examples: examples.slice(0, examplesMax) };
  });
  return `${JSON.stringify({ ...rest, ...counts, kinds, gate: gated }, undefined, 2)}\n`;
}
