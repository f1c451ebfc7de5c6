/** What the session's machine needs to know of a command's text, beyond what policy sees of it. */
import type { CommandAnalysis } from "../policy/input.ts";

export interface OutputColumn {
  /** 0 when the column is no plain column of a table. */
  readonly oid: number;
  readonly attnum: number;
  /** schema.table.column, or null. */
  readonly column: string | null;
}

export interface AnalysedStatement {
  readonly outputColumns: readonly OutputColumn[] | null;
  readonly prepared?: { readonly name: string; readonly text: string };
  readonly execute?: { readonly name: string };
  /** null: every one. */
  readonly deallocate?: { readonly name: string | null };
  readonly cursor?: { readonly name: string; readonly hold: boolean; readonly text: string };
  readonly fetch?: { readonly name: string };
  /** null: every one. */
  readonly close?: { readonly name: string | null };
  readonly setting?: { readonly name: string; readonly value: string | null };
  readonly transaction?: string;
  readonly changesCatalog: boolean;
  readonly changesSession: boolean;
  /** DDL that other sessions see: the names of relations, without schemas, that may mean something else after it. */
  readonly redefines?: readonly string[] | "anything";
  readonly copy?: { readonly direction: "in" | "out"; readonly header?: boolean };
}

/** It uses and changes no name, setting, transaction or copy; names may mean something else after it all the same. */
export function hasOnlyRows(statement: AnalysedStatement): boolean {
  const { outputColumns: _, changesCatalog: __, changesSession: ___, redefines: ____, ...effects } = statement;
  return Object.values(effects).every((effect) => effect === undefined);
}

export interface AnalysedCommand {
  readonly command: CommandAnalysis;
  /** No statement of it uses or changes a name, a setting, a transaction or a copy: only its rows matter. */
  readonly plain: boolean;
  /** It says the same whatever names mean: it names no relation, function, operator, type, statement or cursor. */
  readonly nameless: boolean;
  readonly statements: readonly AnalysedStatement[];
  readonly error?: { readonly message: string; readonly position?: number };
  /** What PostgreSQL would say, where nothing but names that do not exist keeps the analysis incomplete. */
  readonly unknownName?: { readonly sqlstate: string; readonly message: string; readonly position: number };
}

/** Runs SQL of the gateway's own on the session's connection, between the client's messages. */
export type InternalQuery = (sql: string) => Promise<(string | null)[][]>;

/** Names and labels as one session sees them now. */
export interface SessionAnalyser {
  /** Changes identity whenever the catalog, the labels or the search path did. */
  readonly context: object;
  /** Schemas that names are looked for in: the target keeps what a prepared statement names while they stay the same. */
  readonly searchPath?: readonly string[];
  /** Of the database; UTF8 where it is left out. */
  readonly encoding?: string | undefined;
  analyse(text: string): AnalysedCommand;
  /** Labels of a result column, by what RowDescription says of it. */
  labelsOf(oid: number, attnum: number): readonly string[] | undefined;
  /** The column's value is computed from labelled ones: only a mask that shows nothing of it fits. */
  isDerived(oid: number, attnum: number): boolean;
  /** A statement of this session may have changed what names mean. */
  readonly changed: boolean;
  /** Names may be outdated for any reason: `changed`, another session, other labels, age. */
  readonly stale: boolean;
  /** The policy in force has other labels than those that `analyse` works with. */
  readonly labelsOutdated: boolean;
  /** The policy's labels that `analyse` works with. */
  readonly labels: ReadonlyMap<string, readonly string[]>;
  /** Counts what sessions of this gateway have redefined, each before the target does it. */
  readonly redefinitions: number;
  /** Whether another session redefined one of these relations (names without schemas) since there were so many. */
  isRedefined(since: number, relations: ReadonlySet<string>): boolean;
  /**
   * @param inTransaction others do not see what it changes before its end
   * @param ending which of the target's ReadyForQuery, counted from the first, answers the batch or query that has it
   */
  noteForwarded(statement: AnalysedStatement, inTransaction: boolean, ending: number): void;
  /** The target is in no transaction: what was forwarded has taken effect. @param ended up to which ReadyForQuery */
  noteSettled(ended: number): void;
  /** What names meant when they were read last may be true no more: they are read again before the next use. */
  invalidate(): void;
  /** @param inTransaction what is read may be older or newer than what others see: it stays this session's own */
  refresh(run: InternalQuery, inTransaction: boolean): Promise<void>;
  /** Takes the labels of the policy in force for the names as they were read; asks nothing of the target. */
  relabel(): Promise<void>;
}
