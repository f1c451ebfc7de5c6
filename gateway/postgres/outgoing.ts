/** What goes to the target: the client's messages, re-framed, and the gateway's own among them. */
import { randomUUID } from "node:crypto";
import { encodeFrontendMessage } from "./frontend-encoder.ts";
import type { FrontendMessage } from "./messages.ts";
import { MessageWriter } from "./writer.ts";

export interface UpstreamPorts {
  /** Bytes for the target, once what was recorded may be acted upon. */
  forward(bytes: Buffer): void;
  /** Resolves once the target has taken note of it. */
  cancelUpstream(): Promise<void>;
}

const noParameters = { parameterFormats: [], parameters: [], resultFormats: [] };

export class Outgoing {
  readonly #ports: UpstreamPorts;
  readonly #writer = new MessageWriter();
  /** Of the gateway's own statements, while they run: no client can have taken it. */
  readonly #ownName = `sallyport ${randomUUID()}`;
  /** One of the gateway's own failed, and the target may have kept its statement. */
  ownLeft = false;
  #stopping: Promise<void> | undefined;

  constructor(ports: UpstreamPorts) {
    this.#ports = ports;
  }

  /** Bytes that wait for `flush`. */
  get waitingBytes(): number {
    return this.#writer.length;
  }

  /** While a request to cancel may still hit something: nothing new is forwarded until this resolves. */
  get stopping(): Promise<void> | undefined {
    return this.#stopping;
  }

  send(message: FrontendMessage): void {
    encodeFrontendMessage(this.#writer, message);
  }

  /**
   * A statement of the gateway's own. Named, and closed again: a simple query would end the client's unnamed statement
   * and portal.
   *
   * @returns how many times the target will say that something is closed.
   */
  sendOwn(sql: string): number {
    const name = this.#ownName;
    // What an error left is closed first.
    if (this.ownLeft) this.send({ type: "Close", kind: "statement", name });
    this.send({ type: "Parse", statement: name, query: sql, parameterTypeOids: [] });
    this.send({ type: "Bind", portal: name, statement: name, ...noParameters });
    this.send({ type: "Execute", portal: name, rowsMax: 0 });
    this.send({ type: "Close", kind: "portal", name });
    this.send({ type: "Close", kind: "statement", name });
    return this.ownLeft ? 3 : 2;
  }

  /** Hands over what was encoded; the port waits for the record where durability says so. */
  flush(): void {
    if (this.#writer.length === 0) return;
    if (this.#stopping !== undefined) void this.#stopping.then(() => this.flush());
    else this.#ports.forward(this.#writer.take());
  }

  /** Asks the target to cancel what it is at. @returns once nothing that is sent from then on can be hit. */
  cancelRunning(): Promise<void> {
    this.#stopping ??= this.#ports.cancelUpstream().finally(() => {
      this.#stopping = undefined;
    });
    return this.#stopping;
  }
}
