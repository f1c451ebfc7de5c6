/** A query of the gateway's own on the session's connection: of the target's catalog, or of what policy obliges to. */
import { GatewayError } from "../errors.ts";
import { isPassing } from "./diagnostics.ts";
import type { Expected } from "./expected.ts";
import type { NoticeFields } from "./messages.ts";

export type Rows = (string | null)[][];

/** It was cancelled, or could not have what others hold: the next may succeed. */
export class Interrupted extends GatewayError {
  /** The target's own error. */
  readonly sqlstate: string;
  readonly said: string;

  constructor(failure: string, { C = "", M = "" }: NoticeFields) {
    super("upstream.protocol", `${failure}: ${M}`);
    this.sqlstate = C;
    this.said = M;
  }
}

/**
 * @param closing how many times the target will say that something of it is closed
 * @param inBatch without a Sync of its own
 * @param failure what it means that it fails
 * @returns what the target owes once it is sent, and the rows; these reject with `Interrupted` or upstream.protocol.
 */
export function ownQuery(
  closing: number,
  inBatch: boolean,
  failure: string,
): { readonly owed: Expected; readonly rows: Promise<Rows> } {
  const { promise, resolve, reject } = Promise.withResolvers<Rows>();
  const done = (rows: Rows, error: NoticeFields | undefined) => {
    if (error === undefined) resolve(rows);
    else if (isPassing(error)) reject(new Interrupted(failure, error));
    else reject(new GatewayError("upstream.protocol", `${failure}: ${error.M}`));
  };
  return { owed: { kind: "internal", rows: [], error: undefined, inBatch, closing, done }, rows: promise };
}
