/**
 * COPY FROM STDIN on the client's half: while the target takes data it ignores Sync and Flush, unless the command failed
 * before it came to them. Whether it takes data only its answer says, so what comes behind such a command waits for that.
 */
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Expected } from "./expected.ts";
import type { FrontendMessage, Unreadable } from "./messages.ts";
import type { Outgoing } from "./outgoing.ts";
import type { Run } from "./run.ts";

export class CopyIn {
  /** Commands with a COPY FROM STDIN that were forwarded. */
  readonly #runs = new Set<Run>();
  #taking = false;
  /** The client's Syncs while the target takes data. */
  #heldSyncs = 0;

  /** The target takes data of the command at the head, until the client or an error ends that. */
  get taking(): boolean {
    return this.#taking;
  }

  noteForwarded(run: Run): void {
    if (run.copiesIn > 0) this.#runs.add(run);
  }

  /** Whether the target may still ask for data. @param expected what it owes */
  isOwed(expected: readonly Expected[]): boolean {
    if (this.#runs.size === 0) return false;
    const owed = new Set(expected.flatMap((entry) => ("run" in entry ? [entry.run] : [])));
    for (const run of this.#runs) if (run.copiesIn === 0 || !owed.has(run)) this.#runs.delete(run);
    return this.#runs.size > 0;
  }

  /** The target takes data from here on. */
  begin(): void {
    this.#taking = true;
  }

  /**
   * The command that took data is over. @returns how many of the client's Syncs count after all, as it had not ended the
   * data.
   */
  end(): number {
    this.#taking = false;
    const held = this.#heldSyncs;
    this.#heldSyncs = 0;
    return held;
  }

  /** @throws GatewayError protocol.malformed for what is not of a COPY, as the target would end the session too; protocol.too_large */
  handle(message: FrontendMessage | Unreadable, head: Expected | undefined, outgoing: Outgoing): void {
    const run = head !== undefined && "run" in head ? head.run : undefined;
    switch (message.type) {
      case "CopyData":
        run?.copy("in", message.data);
        outgoing.send(message);
        if (outgoing.waitingBytes > limits.upstreamBufferBytesMax) outgoing.flush();
        return;
      case "CopyDone":
      case "CopyFail":
        if (run !== undefined) run.copiesIn -= 1;
        this.end();
        outgoing.send(message);
        return outgoing.flush();
      case "Sync":
        this.#heldSyncs += 1;
        if (this.#heldSyncs > limits.syncsInCopyMax) {
          throw new GatewayError("protocol.too_large", `more than ${limits.syncsInCopyMax} Syncs in a COPY`, {
            hint: "End the data with CopyDone or CopyFail first.",
          });
        }
        return outgoing.flush();
      case "Flush":
        return outgoing.flush();
      case "Terminate":
        return;
      default:
        throw new GatewayError("protocol.malformed", `unexpected ${nameOf(message)} during COPY from stdin`, {
          hint: "End the data with CopyDone or CopyFail first.",
        });
    }
  }
}

function nameOf(message: FrontendMessage | Unreadable): string {
  return message.type === "Unreadable" ? message.message : message.type;
}
