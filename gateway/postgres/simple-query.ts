/**
 * Runs SQL of our own on a connection that serves nothing else, and returns its rows as text: catalog look-ups.
 * Values never go into the text; there is no way to pass any.
 */
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { decodeBackendMessage } from "./backend-decoder.ts";
import { encodeFrontendMessage } from "./frontend-encoder.ts";
import { FrameReader } from "./reader.ts";
import type { UpstreamConnection } from "./upstream.ts";
import { MessageWriter } from "./writer.ts";

type Row = (string | null)[];

class SimpleQueryClient {
  readonly #connection: UpstreamConnection;
  readonly #reader = new FrameReader({ messageBytesMax: limits.upstreamMessageBytesMax });
  #rows: Row[] = [];
  #bytes = 0;
  #failure: GatewayError | undefined;
  #waiting: { resolve: (rows: Row[]) => void; reject: (error: GatewayError) => void } | undefined;
  #closed = false;

  constructor(connection: UpstreamConnection) {
    this.#connection = connection;
    connection.onData((chunk) => {
      try {
        this.#receive(chunk);
      } catch (cause) {
        this.#fail(new GatewayError("upstream.protocol", "a catalog look-up in the target failed", { cause }));
      }
    });
    connection.onClose(() => this.#fail(new GatewayError("upstream.unreachable", "the target closed the connection")));
  }

  /** One call at a time. Rows of all statements, in order. @throws GatewayError upstream.* */
  query(sql: string): Promise<Row[]> {
    if (this.#closed || this.#waiting !== undefined) {
      return Promise.reject(new GatewayError("upstream.unreachable", "the target's connection cannot take a query"));
    }
    this.#rows = [];
    this.#bytes = 0;
    this.#failure = undefined;
    const result = new Promise<Row[]>((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
    this.#connection.write(encodeFrontendMessage(new MessageWriter(), { type: "Query", query: sql }).take());
    return result;
  }

  #receive(chunk: Buffer): void {
    this.#reader.push(chunk);
    for (const frame of this.#reader) {
      this.#bytes += frame.payloadBytes;
      if (this.#bytes > limits.catalogQueryBytesMax) {
        throw new GatewayError("protocol.too_large", `more than ${limits.catalogQueryBytesMax} bytes`);
      }
      const message = decodeBackendMessage(frame);
      switch (message.type) {
        case "DataRow":
          this.#rows.push(message.fields.map((field) => (field === null ? null : field.toString("utf8"))));
          break;
        case "ErrorResponse":
          this.#failure = new GatewayError(
            "upstream.protocol",
            `a catalog look-up in the target failed (${message.fields.C ?? "XX000"})`,
            { cause: new Error(message.fields.M ?? "") },
          );
          break;
        case "ReadyForQuery": {
          const waiting = this.#waiting;
          this.#waiting = undefined;
          if (this.#failure) waiting?.reject(this.#failure);
          else waiting?.resolve(this.#rows);
          break;
        }
        case "RowDescription":
        case "CommandComplete":
        case "EmptyQueryResponse":
        case "NoticeResponse":
        case "NotificationResponse":
        case "ParameterStatus":
          break;
        default:
          throw new GatewayError("protocol.malformed", `unexpected ${message.type} message`);
      }
    }
  }

  #fail(error: GatewayError): void {
    this.#closed = true;
    this.#connection.destroy();
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.reject(error);
  }
}

const clients = new WeakMap<UpstreamConnection, SimpleQueryClient>();

/** @see SimpleQueryClient.query; the connection is taken over for good by the first call. */
export function simpleQuery(connection: UpstreamConnection, sql: string): Promise<Row[]> {
  let client = clients.get(connection);
  if (client === undefined) {
    client = new SimpleQueryClient(connection);
    clients.set(connection, client);
  }
  return client.query(sql);
}
