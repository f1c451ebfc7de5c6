/** What the target still owes an answer to, in order: one entry a forwarded message. */
import type { AnalysedCommand } from "./analysed.ts";
import type { NoticeFields } from "./messages.ts";
import type { Proposal } from "./registry.ts";
import type { Run } from "./run.ts";

export interface PreparedEntry {
  readonly text: string;
  /** What `text` was analysed as last, and under which names: every Bind asks. */
  analysed?: { readonly context: object; readonly command: AnalysedCommand };
  /** Relations that it named when it was first judged by each search path, as schema.name. */
  readonly meant?: Map<string, ReadonlySet<string>>;
  /** A cursor's: it goes on with what its names meant, under any search path. */
  readonly settled?: boolean;
}
export interface PortalEntry {
  run: Run;
  readonly statement: PreparedEntry;
  readonly params: readonly (string | null)[];
  /** What EXECUTE or FETCH named when it was bound; the target looks the name up only when the portal runs. */
  readonly entries: readonly (PreparedEntry | undefined)[];
  /** Analysis context at the last judgement. */
  context: object;
  /** The target executed it, perhaps up to a count of rows: what follows is the rest of the same command. */
  started: boolean;
  /** FETCH took rows of it. */
  fetched: boolean;
  /** By SQL: `run` is that of its DECLARE, until an Execute of it is judged. */
  declared: boolean;
  readonly hold: boolean;
}

export type NameChange =
  | { readonly registry: "statements"; readonly name: string; readonly proposal: Proposal<PreparedEntry> }
  | { readonly registry: "portals"; readonly name: string; readonly proposal: Proposal<PortalEntry> };

export type Expected =
  | { readonly kind: "query"; readonly run: Run; readonly changes: ReadonlyMap<number, NameChange> }
  /** A statement of the gateway's own that must fail, in the place of one that was refused. */
  | { readonly kind: "refused"; readonly fields: NoticeFields; readonly simple: boolean; answered: boolean }
  | { readonly kind: "parse"; readonly change: NameChange }
  | { readonly kind: "bind"; readonly change: NameChange }
  | { readonly kind: "describeStatement"; parametersSeen: boolean }
  /** `judges`: the gateway asked, for the masks of `run`. `answers`: the client did; one answer may serve both. */
  | { readonly kind: "describePortal"; readonly run: Run; readonly judges: boolean; answers: boolean }
  | {
      readonly kind: "execute";
      readonly run: Run;
      readonly portal: PortalEntry;
      readonly change: NameChange | undefined;
    }
  /** The gateway's own statement before an Execute, for what policy obliges it to; without a Sync of its own. */
  | { readonly kind: "settings"; row: readonly (string | null)[] | undefined; closing: number }
  | { readonly kind: "close"; readonly change: NameChange }
  /** `executes`: how many its batch has. `endsBlock`: one of them may have ended a transaction block. */
  | { readonly kind: "sync"; readonly executes: number; readonly endsBlock: boolean }
  | {
      readonly kind: "internal";
      readonly rows: (string | null)[][];
      error: NoticeFields | undefined;
      /** Without a Sync of its own: over once what it closes is closed, or at an error. */
      readonly inBatch: boolean;
      /** CloseComplete messages that are still to come. */
      closing: number;
      readonly done: (rows: (string | null)[][], error: NoticeFields | undefined) => void;
    };
