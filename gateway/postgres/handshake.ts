/**
 * From an accepted socket to an authenticated caller: TLS by SSLRequest or at once (direct, by ALPN), the start-up
 * packet, and the token as a cleartext password or by SASL OAUTHBEARER (RFC 7628). Cancel requests end here.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { type SecureContext, TLSSocket } from "node:tls";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { isLoopback } from "../loopback.ts";
import { encodeBackendMessage } from "./backend-encoder.ts";
import { decodePasswordMessage, decodeSASLInitialResponse, decodeSASLResponse } from "./frontend-decoder.ts";
import { type CancelRequest, frontendType } from "./messages.ts";
import { checkAcknowledgement, errorDocument, type OAuthAnnouncement, parseInitialResponse } from "./oauthbearer.ts";
import { type Frame, FrameReader } from "./reader.ts";
import { decodeStartupPacket, readStartupMessage, type StartupRequest } from "./startup.ts";
import { MessageWriter } from "./writer.ts";

export interface HandshakeOptions {
  readonly secureContext: SecureContext | undefined;
  readonly authentication: "password" | "oauthbearer";
  /** What a client without an accepted token is told by OAUTHBEARER. */
  readonly oauth: OAuthAnnouncement;
}

interface Credentials {
  readonly token: string;
  /** Tells the client that its token is not accepted, where its method has words for that before the error. */
  rejected(): Promise<void>;
}

export type Handshake =
  | { readonly kind: "cancel"; readonly request: CancelRequest }
  | { readonly kind: "closed" }
  | {
      readonly kind: "caller";
      readonly stream: ClientStream;
      readonly startup: StartupRequest;
      readonly credentials: Credentials;
    };

const alpnProtocol = "postgresql";
/** The content type of a TLS record that a handshake opens with; no start-up packet is long enough to begin so. */
const tlsHandshakeRecord = 0x16;

/** A client's bytes as frames, for as long as the handshake asks for them one by one. */
export class ClientStream {
  /** Of the client, also where `socket` is TLS over another. */
  readonly address: string | undefined;
  socket: Socket;
  reader: FrameReader;
  #wake: (() => void) | undefined;
  #closed = false;
  readonly #onData = (chunk: Buffer) => {
    this.reader.push(chunk);
    // Who has not logged in is read no further than one message needs: `frame` reads on.
    if (this.reader.bufferedBytes > limits.loginMessageBytesMax) this.socket.pause();
    this.#wake?.();
  };
  readonly #onEnd = () => {
    this.#closed = true;
    this.#wake?.();
  };

  constructor(socket: Socket) {
    this.socket = socket;
    this.address = socket.remoteAddress;
    this.reader = loginReader();
    this.#attach();
  }

  #attach(): void {
    this.socket.on("data", this.#onData);
    this.socket.on("close", this.#onEnd);
    this.socket.on("end", this.#onEnd);
    this.socket.on("error", this.#onEnd);
  }

  /** Goes on over TLS. Bytes that were sent before the handshake are refused: they were not protected by it. */
  async upgrade(secureContext: SecureContext, greeting?: Buffer): Promise<void> {
    const plain = this.socket;
    if (this.reader.bufferedBytes > 0) {
      throw new GatewayError("protocol.malformed", "received unencrypted data after SSL request");
    }
    plain.off("data", this.#onData);
    plain.off("end", this.#onEnd);
    let early = false;
    const refuseEarly = (chunk: Buffer) => {
      if (chunk[0] !== 0x16) early = true;
    };
    plain.prependOnceListener("data", refuseEarly);
    if (greeting) plain.write(greeting);
    await this.#secure(plain, secureContext);
    if (early) throw new GatewayError("protocol.malformed", "received unencrypted data after SSL request");
  }

  /** TLS from the first byte on. ALPN is required, as PostgreSQL does: it keeps another protocol's client out. */
  async upgradeDirectly(secureContext: SecureContext): Promise<void> {
    const plain = this.socket;
    plain.pause();
    plain.off("data", this.#onData);
    plain.off("end", this.#onEnd);
    const received = unread(plain, this.reader.takeRemaining());
    const secured = await this.#secure(received, secureContext);
    if (secured.alpnProtocol !== alpnProtocol)
      throw new GatewayError(
        "protocol.malformed",
        "received direct SSL connection request without ALPN protocol negotiation",
      );
  }

  /** @param transport the socket, or what reads from it */
  async #secure(transport: Duplex, secureContext: SecureContext): Promise<TLSSocket> {
    const plain = this.socket;
    const secured = new TLSSocket(transport, { isServer: true, secureContext, ALPNProtocols: [alpnProtocol] });
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new GatewayError("protocol.timeout", "the TLS handshake took too long")),
        limits.tlsHandshakeTimeoutMs,
      );
      const failed = (cause?: unknown) => {
        clearTimeout(timer);
        reject(new GatewayError("protocol.malformed", "the TLS handshake failed", { cause }));
      };
      secured.once("secure", () => {
        clearTimeout(timer);
        resolve();
      });
      secured.once("error", failed);
      plain.once("close", failed);
    });
    this.socket = secured;
    this.reader = loginReader();
    this.#attach();
    return secured;
  }

  /** It sends no more. */
  get closed(): boolean {
    return this.#closed;
  }

  async frame(): Promise<Frame | undefined> {
    for (;;) {
      const frame = this.reader.next();
      if (frame !== undefined) return frame;
      if (!(await this.#more())) return undefined;
    }
  }

  /** Without taking it. */
  async firstByte(): Promise<number | undefined> {
    while (this.reader.firstByte === undefined) if (!(await this.#more())) return undefined;
    return this.reader.firstByte;
  }

  /** @returns false when the client closed. */
  async #more(): Promise<boolean> {
    if (this.#closed) return false;
    this.socket.resume();
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
    return true;
  }

  /** The handshake is over: whoever goes on reads the socket itself, and `reader` has what already came. */
  release(): void {
    this.socket.pause();
    this.socket.off("data", this.#onData);
    this.socket.off("end", this.#onEnd);
    this.socket.off("close", this.#onEnd);
    this.socket.off("error", this.#onEnd);
    this.reader.messageBytesMax = limits.clientMessageBytesMax;
  }
}

function loginReader(): FrameReader {
  return new FrameReader({
    messageBytesMax: limits.loginMessageBytesMax,
    startupBytesMax: limits.startupPacketBytesMax,
  });
}

/** The socket as if `received` had not been read from it yet. */
function unread(socket: Socket, received: Buffer): Duplex {
  const whole = new Duplex({
    allowHalfOpen: false,
    read: () => void socket.resume(),
    write: (chunk, _encoding, done) => {
      if (socket.write(chunk)) done();
      else socket.once("drain", () => done());
    },
    final: (done) => {
      socket.end();
      done();
    },
    destroy: (error, done) => {
      socket.destroy();
      done(error);
    },
  });
  whole.push(received);
  socket.on("data", (chunk: Buffer) => {
    if (!whole.push(chunk)) socket.pause();
  });
  socket.on("end", () => whole.push(null));
  socket.on("close", () => whole.destroy());
  return whole;
}

/** @throws GatewayError protocol.*; the caller shows it and closes. */
export async function handshake(stream: ClientStream, options: HandshakeOptions): Promise<Handshake> {
  let encrypted = false;
  let requests = 0;
  const first = await stream.firstByte();
  // Some drivers take their leave before they have said who they are: no length of a packet begins so.
  if (first === frontendType.Terminate) return { kind: "closed" };
  if (first === tlsHandshakeRecord) {
    if (options.secureContext === undefined)
      throw new GatewayError("protocol.malformed", "TLS was begun, and this gateway has none configured");
    await stream.upgradeDirectly(options.secureContext);
    encrypted = true;
  }
  for (;;) {
    const frame = await stream.frame();
    if (frame === undefined) return { kind: "closed" };
    const packet = decodeStartupPacket(frame);
    switch (packet.type) {
      case "CancelRequest":
        return { kind: "cancel", request: packet };
      case "GSSENCRequest":
      case "SSLRequest":
        requests += 1;
        if (encrypted || requests > 2) throw new GatewayError("protocol.malformed", `unexpected ${packet.type}`);
        if (packet.type === "GSSENCRequest" || options.secureContext === undefined) {
          stream.socket.write("N");
        } else {
          await stream.upgrade(options.secureContext, Buffer.from("S"));
          encrypted = true;
        }
        continue;
      case "StartupMessage": {
        stream.reader.startupDone();
        const startup = readStartupMessage(packet);
        const writer = new MessageWriter();
        if (startup.unrecognized !== undefined) {
          encodeBackendMessage(writer, {
            type: "NegotiateProtocolVersion",
            minor: startup.minor,
            unrecognized: startup.unrecognized,
          });
        }
        if (!encrypted && !isLoopback(stream.address)) {
          throw new GatewayError("protocol.tls_required", "a token is accepted over TLS only", {
            hint: "Use sslmode=require or stronger.",
          });
        }
        const credentials =
          options.authentication === "password"
            ? await passwordToken(stream, writer)
            : await bearerToken(stream, writer, options.oauth, startup.user);
        return credentials === undefined ? { kind: "closed" } : { kind: "caller", stream, startup, credentials };
      }
    }
  }
}

async function passwordToken(stream: ClientStream, writer: MessageWriter): Promise<Credentials | undefined> {
  encodeBackendMessage(writer, { type: "AuthenticationCleartextPassword" });
  stream.socket.write(writer.take());
  const frame = await stream.frame();
  if (frame === undefined || frame.type === frontendType.Terminate) return undefined;
  const { password } = decodePasswordMessage(frame);
  if (password === "") {
    throw new GatewayError("identity.token_missing", "no token was given", {
      hint: "Give your OIDC token as the password (PGPASSWORD).",
    });
  }
  return { token: password, rejected: async () => undefined };
}

/** RFC 7628; `oauthbearer.ts` has its messages. */
async function bearerToken(
  stream: ClientStream,
  writer: MessageWriter,
  oauth: OAuthAnnouncement,
  user: string,
): Promise<Credentials | undefined> {
  encodeBackendMessage(writer, { type: "AuthenticationSASL", mechanisms: ["OAUTHBEARER"] });
  stream.socket.write(writer.take());
  const frame = await stream.frame();
  if (frame === undefined || frame.type === frontendType.Terminate) return undefined;
  const initial = decodeSASLInitialResponse(frame);
  if (initial.mechanism !== "OAUTHBEARER")
    throw new GatewayError("protocol.malformed", "client selected an invalid SASL authentication mechanism");
  // Who leaves out the initial response gives it in answer to an empty challenge (RFC 4422 section 3.2).
  const response = initial.data ?? (await challenge(stream, Buffer.alloc(0)));
  if (response === undefined) return undefined;
  const auth = parseInitialResponse(response);
  const rejected = async () => {
    const answer = await challenge(stream, errorDocument(oauth));
    if (answer !== undefined) checkAcknowledgement(answer);
  };
  if (auth.kind === "token") return { token: auth.token, rejected };
  await rejected();
  if (auth.kind === "unusable")
    throw new GatewayError("protocol.malformed", `malformed OAuth bearer token: ${auth.why}`);
  throw new GatewayError(
    "identity.token_missing",
    `OAuth bearer authentication failed for user "${user.slice(0, 128)}": no token was given`,
  );
}

/** @returns the client's answer, or undefined when it closed instead. */
async function challenge(stream: ClientStream, data: Buffer): Promise<Buffer | undefined> {
  stream.socket.write(encodeBackendMessage(new MessageWriter(), { type: "AuthenticationSASLContinue", data }).take());
  const frame = await stream.frame();
  if (frame === undefined || frame.type === frontendType.Terminate) return undefined;
  return decodeSASLResponse(frame).data;
}
