/** How one command waits for approval, should it have to. */
import type { HoldNotice } from "../session/approvals.ts";
import type { Hold } from "../session/session.ts";

export class CommandHold implements Hold {
  readonly notify: (notice: HoldNotice) => void;
  readonly stillMeans: Hold["stillMeans"];
  /** Few commands are held: the others need none. */
  #controller: AbortController | undefined;

  constructor(notify: CommandHold["notify"], stillMeans: CommandHold["stillMeans"]) {
    this.notify = notify;
    this.stillMeans = stillMeans;
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    return this.#controller.signal;
  }

  /** Its caller gives it up. */
  abort(): void {
    this.#controller ??= new AbortController();
    this.#controller.abort();
  }
}
