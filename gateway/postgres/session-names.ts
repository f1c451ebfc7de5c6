/**
 * What the names of a session stand for: its prepared statements and portals, those of SQL (PREPARE, DECLARE) among
 * them. EXECUTE and FETCH are judged as what their names stand for.
 */
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { CommandAnalysis } from "../policy/input.ts";
import { type AnalysedCommand, type AnalysedStatement, hasOnlyRows, type SessionAnalyser } from "./analysed.ts";
import type { NameChange, PortalEntry, PreparedEntry } from "./expected.ts";
import { NameRegistry } from "./registry.ts";
import type { Run } from "./run.ts";
import { beyondAscii } from "./sql/encoding.ts";

/** A command as it is judged: what its names stand for put in their place. */
export interface Resolved extends Pick<AnalysedCommand, "statements" | "plain"> {
  readonly analysis: CommandAnalysis;
  /** Digest of the texts of those names; "" where it has none. */
  readonly standsFor: string;
  /** Of portals that FETCH names: their parameters, as they were bound. */
  readonly params: readonly (string | null)[];
  /** Each of those texts once. */
  readonly bodies: readonly string[];
  /** What those names meant, by statement: a text made anew under the same name is another. */
  readonly entries: readonly (PreparedEntry | undefined)[];
  /** One of the names stands for more than a query: what that would do to the session nobody would account for. */
  readonly unaccountable: boolean;
}

/** PREPAREd and DECLAREd earlier in the same text: what later statements of it mean by those names. */
interface MadeHere {
  readonly prepared: Map<string, { readonly text: string }>;
  readonly cursors: Map<string, { readonly text: string }>;
}

interface Meaning {
  readonly entry: PreparedEntry;
  readonly params?: PortalEntry["params"];
}

/** An EXECUTE or FETCH; without a command the name means nothing. */
interface Use {
  readonly name: string;
  readonly command: AnalysedCommand | undefined;
}

const noChanges: ReadonlyMap<number, NameChange> = new Map();
const combinedMax = 1_000;
/** That one prepared statement is used under. */
const searchPathsMax = 1_000;

function relationsOf({ command }: AnalysedCommand): ReadonlySet<string> {
  return new Set(
    command.statements.flatMap(({ relations }) => relations.map(({ schema, name }) => `${schema}\u0000${name}`)),
  );
}

function nameOf(relation: string): string {
  return relation.slice(relation.indexOf("\u0000") + 1);
}

function incomplete({ unknownName: _, ...analysed }: AnalysedCommand, reason: string): AnalysedCommand {
  const { command } = analysed;
  const reasons = [...command.incomplete, reason].sort();
  return Object.freeze({ ...analysed, command: Object.freeze({ ...command, complete: false, incomplete: reasons }) });
}

export class SessionNames {
  readonly statements = new NameRegistry<PreparedEntry>("prepared statement", limits.preparedStatementsMax, {
    lengthMax: limits.preparedTextLengthMax,
    lengthOf: ({ text }) => text.length,
  });
  readonly portals = new NameRegistry<PortalEntry>(
    "portal",
    limits.portalsMax,
    { lengthMax: limits.portalParametersLengthMax, lengthOf: ({ params }) => parametersLength(params) },
    endPortal,
  );
  readonly #analyser: SessionAnalyser;
  /** Analyses of texts together with what their names stand for. */
  readonly #combined = new Map<string, { context: object; analysis: CommandAnalysis }>();

  constructor(analyser: SessionAnalyser) {
    this.#analyser = analyser;
  }

  /** @param batch the open one. @returns "unsettled" where an answer of the target decides what a name means */
  resolve(analysed: AnalysedCommand, text: string, batch: number): Resolved | "unsettled" {
    const { plain } = analysed;
    if (plain || !analysed.statements.some((statement) => statement.execute || statement.fetch)) {
      const { command: analysis, statements } = analysed;
      return { analysis, statements, plain, standsFor: "", params: [], bodies: [], entries: [], unaccountable: false };
    }
    const made: MadeHere = { prepared: new Map(), cursors: new Map() };
    const statements: AnalysedStatement[] = [];
    const entries: (PreparedEntry | undefined)[] = [];
    const params: (string | null)[] = [];
    const uses: Use[] = [];
    let unaccountable = false;
    for (const statement of analysed.statements) {
      const { prepared, cursor } = statement;
      if (prepared) made.prepared.set(prepared.name, prepared);
      if (cursor) made.cursors.set(cursor.name, cursor);
      const use = statement.execute ?? statement.fetch;
      if (use === undefined) {
        statements.push(statement);
        continue;
      }
      const meaning = this.#meaningOf(statement, made, batch);
      if (meaning === "unsettled") return "unsettled";
      entries.push(meaning?.entry);
      params.push(...(meaning?.params ?? []));
      const command = meaning && this.analysisOf(meaning.entry);
      uses.push({ name: use.name, command });
      unaccountable ||= command !== undefined && !isOneQuery(command);
      statements.push(command ? standingFor(statement, command.statements[0]) : statement);
    }
    // A short text may name a long one a thousand times.
    const bodies = [...new Set(entries.flatMap((entry) => (entry === undefined ? [] : [entry.text])))];
    const order = entries.map((entry) => (entry === undefined ? -1 : bodies.indexOf(entry.text)));
    const standsFor = combine([order.join(), ...bodies.map((body) => combine([body]))]);
    const understood = uses.map(({ command }) => command?.command.complete);
    const analysis = this.#combine(combine([text, standsFor, understood.join()]), analysed.command, uses);
    return { analysis, statements, plain, standsFor, params, bodies, entries, unaccountable };
  }

  /** @param key of the text and of those that its names stand for */
  #combine(key: string, own: CommandAnalysis, uses: readonly Use[]): CommandAnalysis {
    const { context } = this.#analyser;
    const known = this.#combined.get(key);
    if (known?.context === context) return known.analysis;
    // What a name stands for is the same however often it is used.
    const stands = new Set(uses.flatMap(({ command }) => (command === undefined ? [] : [command.command])));
    const commands = [own, ...stands];
    const absent = uses.flatMap(({ name, command }) =>
      command === undefined ? [`"${name}" names no statement or cursor of this session`] : [],
    );
    const incomplete = [...new Set([...commands.flatMap((command) => command.incomplete), ...absent])];
    const analysis: CommandAnalysis = Object.freeze({
      kind: "sql",
      fingerprint: commands.length === 1 ? own.fingerprint : combine(commands.map(({ fingerprint }) => fingerprint)),
      complete: incomplete.length === 0,
      incomplete,
      statements: commands.flatMap(({ statements }) => statements),
    });
    if (this.#combined.size >= combinedMax) this.#combined.clear();
    this.#combined.set(key, { context, analysis });
    return analysis;
  }

  /** The statement that EXECUTE or FETCH stands for, and what it was bound to. */
  #meaningOf({ execute, fetch }: AnalysedStatement, made: MadeHere, batch: number): Meaning | undefined | "unsettled" {
    if (execute) {
      const prepared = made.prepared.get(execute.name);
      if (prepared) return { entry: { text: prepared.text } };
      const lookup = this.statements.lookup(execute.name, batch);
      if (lookup.kind === "unsettled") return "unsettled";
      return lookup.kind === "found" ? { entry: lookup.value } : undefined;
    }
    const name = fetch?.name ?? "";
    const cursor = made.cursors.get(name);
    if (cursor) return { entry: { text: cursor.text } };
    const lookup = this.portals.lookup(name, batch);
    if (lookup.kind === "unsettled") return "unsettled";
    // What FETCH gives is what the cursor's query gives.
    return lookup.kind === "found" ? { entry: lookup.value.statement, params: lookup.value.params } : undefined;
  }

  /** Under the names of now. */
  analysisOf(entry: PreparedEntry): AnalysedCommand {
    const { context } = this.#analyser;
    if (entry.analysed?.context === context) return entry.analysed.command;
    const command = this.#asMeant(entry, this.#analyser.analyse(entry.text));
    entry.analysed = { context, command };
    return command;
  }

  /** A text that is prepared now, which means what its names mean now. */
  prepared(text: string, settled = false): PreparedEntry {
    const entry: PreparedEntry = { text, meant: new Map(), settled };
    this.analysisOf(entry);
    return entry;
  }

  /**
   * The target looks names up again where the search path is another or what they stood for has changed, not where a
   * new relation has taken one of them by coming first: it goes on with the one of before, which is not judged.
   */
  #asMeant({ meant, settled }: PreparedEntry, command: AnalysedCommand): AnalysedCommand {
    if (meant === undefined || !command.command.complete) return command;
    const path = settled ? "" : JSON.stringify(this.#analyser.searchPath ?? []);
    const named = relationsOf(command);
    const before = meant.get(path);
    if (before === undefined) {
      if (meant.size < searchPathsMax) meant.set(path, named);
      else return incomplete(command, "it was prepared under too many search paths: prepare it again");
      return command;
    }
    const schemasOf = (name: string) => [...named].filter((one) => nameOf(one) === name);
    const moved = [...before].find((one) => !named.has(one) && schemasOf(nameOf(one)).some((now) => !before.has(now)));
    if (moved === undefined) return command;
    return incomplete(command, `"${nameOf(moved)}" means another relation than when it was prepared: prepare it again`);
  }

  /** What names will mean once each statement of a command that is about to be forwarded has succeeded, by statement. */
  changesOf(run: Run, batch: number): ReadonlyMap<number, NameChange> {
    const { plain, statements } = run;
    if (
      plain ||
      !statements.some(({ prepared, cursor, deallocate, close }) => prepared ?? cursor ?? deallocate ?? close)
    )
      return noChanges;
    const changes = new Map<number, NameChange>();
    statements.forEach(({ prepared, cursor, deallocate, close }, index) => {
      if (prepared) {
        changes.set(index, this.preparing(prepared.name, batch, this.prepared(prepared.text)));
      } else if (cursor) {
        changes.set(index, this.binding(cursor.name, batch, declared(run, cursor, this.prepared(cursor.text, true))));
      } else if (deallocate && deallocate.name !== null) {
        changes.set(index, this.closing("statements", deallocate.name, batch));
      } else if (close && close.name !== null) {
        changes.set(index, this.closing("portals", close.name, batch));
      }
    });
    return changes;
  }

  /** A message or statement that prepares is about to be forwarded. */
  preparing(name: string, batch: number, entry: PreparedEntry): NameChange {
    this.#checkName(name);
    return { registry: "statements", name, proposal: this.statements.propose(name, batch, entry) };
  }

  binding(name: string, batch: number, portal: PortalEntry): NameChange {
    this.#checkName(name);
    return { registry: "portals", name, proposal: this.portals.propose(name, batch, portal) };
  }

  /** FETCH gave rows of a portal, perhaps of one that was bound by message. */
  noteFetched(name: string): void {
    const portal = this.portals.confirmed(name);
    if (portal) portal.fetched = true;
  }

  closing(registry: NameChange["registry"], name: string, batch: number): NameChange {
    this.#checkName(name);
    return registry === "statements"
      ? { registry, name, proposal: this.statements.propose(name, batch, undefined) }
      : { registry, name, proposal: this.portals.propose(name, batch, undefined) };
  }

  /** Two names beyond ASCII may be one in another encoding. @throws GatewayError protocol.unsupported */
  #checkName(name: string): void {
    if (!beyondAscii.test(name)) return;
    const { encoding } = this.#analyser;
    if (encoding === undefined) return;
    throw new GatewayError(
      "protocol.unsupported",
      `a name of a prepared statement or portal must be ASCII in a database of encoding ${encoding}`,
    );
  }

  /** The target answered: `accepted` says whether the name means now what was proposed. */
  settle(change: NameChange | undefined, accepted: boolean): void {
    if (change === undefined) return;
    if (change.registry === "statements") this.statements.settle(change.name, change.proposal, accepted);
    else this.portals.settle(change.name, change.proposal, accepted);
  }
}

function isOneQuery({ statements: [only, ...more] }: AnalysedCommand): boolean {
  return only !== undefined && more.length === 0 && hasOnlyRows(only);
}

/** An EXECUTE or FETCH gives the rows of what it stands for, and may change what that changes. */
function standingFor(statement: AnalysedStatement, body: AnalysedStatement | undefined): AnalysedStatement {
  return {
    ...statement,
    outputColumns: body?.outputColumns ?? null,
    changesCatalog: statement.changesCatalog || body?.changesCatalog === true,
    changesSession: statement.changesSession || body?.changesSession === true,
  };
}

export function parametersLength(params: PortalEntry["params"]): number {
  return params.reduce((length, value) => length + (value?.length ?? 0), 0);
}

/** What policy saw of a command, and where its columns come from. */
export function meaningOf({ analysis, statements, standsFor }: Resolved): string {
  return JSON.stringify([analysis, statements.map(({ outputColumns }) => outputColumns), standsFor]);
}

/** Of no judgement: an Execute of it is judged, and its columns asked for, as a FETCH is. */
function declared(run: Run, { hold }: NonNullable<AnalysedStatement["cursor"]>, statement: PreparedEntry): PortalEntry {
  return {
    run,
    statement,
    params: [],
    entries: [],
    context: {},
    started: false,
    fetched: false,
    declared: true,
    hold,
  };
}

/** A portal that is closed, or ended by its transaction, was read as far as its caller wanted; or not at all. */
function endPortal({ run, started, fetched, declared }: PortalEntry): void {
  if (!declared) run.finish(started || fetched ? undefined : "skipped");
}

function combine(fingerprints: readonly string[]): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(fingerprints.join("\n")).digest("hex")}`;
}
