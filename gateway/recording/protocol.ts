/** What the main thread and the store's worker say to each other. */
import type { ErrorCode } from "../errors.ts";
import type { SessionOpened } from "./events.ts";

export interface WorkerOptions {
  readonly url: string;
  readonly authToken?: string | undefined;
  readonly durability: "strict" | "group";
  readonly gateway: string;
  readonly signingKey?: string | undefined;
}

/** Events of one session that follow each other, and what the list of sessions says of it with them. */
export interface AppendPart {
  readonly session: string;
  /** Number of the first event. */
  readonly first: number;
  readonly events: number;
  /** In bytes: each event as JSON, with its line feed. */
  readonly length: number;
  readonly commands: number;
  readonly verdicts: string;
}

export type ToWorker =
  | { readonly type: "start"; readonly options: WorkerOptions }
  | { readonly type: "open"; readonly opened: SessionOpened }
  | {
      readonly type: "seal";
      readonly session: string;
      readonly call: number;
      readonly at: number;
      readonly reason: string;
    }
  /** Answered once the store has, on disk, what was appended before. */
  | { readonly type: "sync"; readonly call: number }
  | { readonly type: "call"; readonly call: number; readonly method: string; readonly arguments: readonly unknown[] }
  /** The parts lie one behind the other in `bytes`, which are written anew once they are committed. */
  | { readonly type: "append"; readonly bytes: SharedArrayBuffer; readonly parts: readonly AppendPart[] };

export type FromWorker =
  /** Of the key that signs seals: SPKI, PEM. */
  | { readonly type: "started"; readonly publicKey: string | undefined }
  /** Everything appended so far, up to this many append messages, is committed. */
  | { readonly type: "committed"; readonly appends: number }
  | { readonly type: "answer"; readonly call: number; readonly value: unknown }
  | { readonly type: "refused"; readonly call: number; readonly code: string; readonly message: string }
  | { readonly type: "failed"; readonly failure: WorkerFailure };

/** The first: nothing is written after it. With a code where it is one of the gateway's own errors. */
export interface WorkerFailure {
  readonly message: string;
  readonly code?: ErrorCode | undefined;
  readonly hint?: string | undefined;
}
