/**
 * Stands where the target would: answers each forwarded message as a PostgreSQL would that has nothing against it, so
 * that names, cursors and the transaction's state settle as they do in the gateway. It holds no rows.
 */
import { limits } from "../../gateway/limits.ts";
import { encodeBackendMessage } from "../../gateway/postgres/backend-encoder.ts";
import { Descriptions } from "../../gateway/postgres/descriptions.ts";
import { Machine } from "../../gateway/postgres/machine.ts";
import type { BackendMessage, FrontendMessage, NoticeFields } from "../../gateway/postgres/messages.ts";
import { FrameReader } from "../../gateway/postgres/reader.ts";
import { Responses } from "../../gateway/postgres/responses.ts";
import { MessageWriter } from "../../gateway/postgres/writer.ts";
import type { Session } from "../../gateway/session/session.ts";
import type { DryAnalyser } from "./dry-analyser.ts";

const syntaxError: NoticeFields = { S: "ERROR", V: "ERROR", C: "42601", M: "syntax error" };
const aborted: NoticeFields = { S: "ERROR", V: "ERROR", C: "25P02", M: "current transaction is aborted" };

export class StandInTarget {
  readonly #machine: Machine;
  readonly #responses: Responses;
  readonly #analyser: DryAnalyser;
  readonly #reader = new FrameReader({ messageBytesMax: limits.upstreamMessageBytesMax });
  #status: "I" | "T" | "E" = "I";
  #refused: NoticeFields | undefined;

  constructor(session: Session, analyser: DryAnalyser) {
    this.#analyser = analyser;
    this.#machine = new Machine(
      { session, analyser, hashKey: new Uint8Array(32), rowBytesMax: 0, descriptions: new Descriptions() },
      {
        forward: () => queueMicrotask(() => this.#answer()),
        notice: () => undefined,
        cancelUpstream: () => Promise.resolve(),
      },
    );
    this.#responses = new Responses(this.#machine, new MessageWriter());
  }

  /** @returns what the caller is told where it is refused. @throws GatewayError where it would end the session. */
  async run(text: string, params: readonly (string | null)[] | undefined): Promise<NoticeFields | undefined> {
    this.#refused = undefined;
    for (const message of messagesOf(text, params)) {
      await this.#machine.handle(message);
      this.#answer();
    }
    if (this.#refused === undefined && this.#status !== "E") this.#analyser.succeeded(text);
    else this.#analyser.failed();
    return this.#refused;
  }

  #answer(): void {
    for (let head = this.#machine.expected[0]; head !== undefined; head = this.#machine.expected[0]) {
      switch (head.kind) {
        case "query": {
          const { statements } = head.run;
          const ends = statements.some(({ transaction }) => transaction === "rollback" || transaction === "commit");
          if (this.#status === "E" && !ends) {
            this.#send({ type: "ErrorResponse", fields: aborted });
          } else {
            for (const { transaction } of statements) {
              if (transaction === "begin" || transaction === "start") this.#status = "T";
              if (transaction === "commit" || transaction === "rollback") this.#status = "I";
              this.#send({ type: "CommandComplete", tag: "" });
            }
            if (statements.length === 0) this.#send({ type: "EmptyQueryResponse" });
          }
          this.#send({ type: "ReadyForQuery", status: this.#status });
          break;
        }
        case "refused":
          this.#refused = head.fields;
          if (this.#status === "T") this.#status = "E";
          this.#send({ type: "ErrorResponse", fields: syntaxError });
          if (head.simple) this.#send({ type: "ReadyForQuery", status: this.#status });
          break;
        case "parse":
          this.#send({ type: "ParseComplete" });
          break;
        case "bind":
          this.#send({ type: "BindComplete" });
          break;
        case "close":
          this.#send({ type: "CloseComplete" });
          break;
        case "describeStatement":
          this.#send({ type: "ParameterDescription", typeOids: [] });
          this.#send({ type: "NoData" });
          break;
        case "describePortal":
          this.#send({ type: "NoData" });
          break;
        case "execute":
          this.#send({ type: "CommandComplete", tag: "" });
          break;
        case "sync":
          this.#send({ type: "ReadyForQuery", status: this.#status });
          break;
        case "settings":
          this.#sendSettings();
          this.#send({ type: "CloseComplete" });
          this.#send({ type: "CloseComplete" });
          break;
        case "internal":
          this.#sendSettings();
          this.#send({ type: "ReadyForQuery", status: this.#status });
          break;
      }
    }
  }

  /** The gateway's own statement, for what policy obliges to. */
  #sendSettings(): void {
    const values = ["0", "1s", "off", "on"].map((value) => Buffer.from(value));
    this.#send({ type: "DataRow", fields: values });
    this.#send({ type: "CommandComplete", tag: "SELECT 1" });
  }

  #send(message: BackendMessage): void {
    this.#reader.push(encodeBackendMessage(new MessageWriter(), message).take());
    for (const frame of this.#reader) this.#responses.handle(frame);
  }
}

function messagesOf(text: string, params: readonly (string | null)[] | undefined): FrontendMessage[] {
  if (params === undefined) return [{ type: "Query", query: text }];
  return [
    { type: "Parse", statement: "", query: text, parameterTypeOids: [] },
    {
      type: "Bind",
      portal: "",
      statement: "",
      parameterFormats: [],
      parameters: params.map((value) => (value === null ? null : Buffer.from(value))),
      resultFormats: [],
    },
    { type: "Execute", portal: "", rowsMax: 0 },
    { type: "Sync" },
  ];
}
