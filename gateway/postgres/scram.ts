/**
 * The client side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), without a socket. The server must prove
 * that it knows the password too: `finish` fails when it does not.
 */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";

const deriveKey = promisify(pbkdf2);
const textBytesMax = 4_096;

export interface ScramChannel {
  /** Whether the connection to the server is in TLS. */
  readonly encrypted: boolean;
  /** The `tls-server-end-point` data of the server's certificate, where it has any. */
  readonly endPoint: Buffer | undefined;
}

export class ScramClient {
  readonly mechanism: "SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS";
  readonly #password: string;
  readonly #channelBinding: Buffer;
  readonly #header: string;
  readonly #firstBare: string;
  readonly #nonce: string;
  #serverSignature: Buffer | undefined;

  /** @param mechanisms what the server offers. @param nonce given by tests only. */
  constructor(
    mechanisms: readonly string[],
    password: string,
    channel: ScramChannel,
    nonce = randomBytes(18).toString("base64"),
  ) {
    const plus = mechanisms.includes("SCRAM-SHA-256-PLUS");
    if (plus && channel.endPoint !== undefined) {
      this.mechanism = "SCRAM-SHA-256-PLUS";
      this.#header = "p=tls-server-end-point,,";
    } else if (mechanisms.includes("SCRAM-SHA-256")) {
      this.mechanism = "SCRAM-SHA-256";
      // "y" says: we could have bound the channel. A server that did offer it then sees that its offer was cut out.
      this.#header = channel.endPoint !== undefined ? "y,," : "n,,";
    } else {
      throw refused("the target offers no SASL mechanism that is supported");
    }
    // SASLprep's mapping, without its tables: normal form KC is what differs in practice.
    this.#password = password.normalize("NFKC");
    this.#channelBinding = Buffer.concat([
      Buffer.from(this.#header),
      ...(this.mechanism === "SCRAM-SHA-256-PLUS" && channel.endPoint ? [channel.endPoint] : []),
    ]);
    this.#nonce = nonce;
    // PostgreSQL takes the user from the StartupMessage.
    this.#firstBare = `n=,r=${nonce}`;
  }

  /** client-first-message */
  start(): Buffer {
    return Buffer.from(this.#header + this.#firstBare);
  }

  /** server-first-message -> client-final-message. @throws GatewayError upstream.authentication */
  async proceed(serverFirst: Buffer): Promise<Buffer> {
    const text = serverText(serverFirst);
    const match = /^r=([!-+\--~]+),s=([A-Za-z0-9+/]+={0,2}),i=([1-9][0-9]{0,9})(?:,.*)?$/.exec(text);
    if (match === null) throw refused("the target's SCRAM message is malformed");
    const [nonce, salt, iterations] = [match[1] ?? "", match[2] ?? "", Number(match[3])];
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) {
      throw refused("the target's SCRAM nonce does not extend ours");
    }
    if (iterations > limits.scramIterationsMax) {
      throw refused(
        `the target asks for ${iterations} SCRAM iterations, at most ${limits.scramIterationsMax} accepted`,
      );
    }
    const salted = await deriveKey(this.#password, Buffer.from(salt, "base64"), iterations, 32, "sha256");
    const clientKey = hmac(salted, "Client Key");
    const finalBare = `c=${this.#channelBinding.toString("base64")},r=${nonce}`;
    const signed = `${this.#firstBare},${text},${finalBare}`;
    const clientSignature = hmac(createHash("sha256").update(clientKey).digest(), signed);
    const proof = clientKey.map((byte, index) => byte ^ (clientSignature[index] ?? 0));
    this.#serverSignature = hmac(hmac(salted, "Server Key"), signed);
    return Buffer.from(`${finalBare},p=${Buffer.from(proof).toString("base64")}`);
  }

  /** Checks server-final-message. @throws GatewayError upstream.authentication when the server does not know the password */
  finish(serverFinal: Buffer): void {
    const match = /^v=([A-Za-z0-9+/]+={0,2})(?:,.*)?$/.exec(serverText(serverFinal));
    const signature = Buffer.from(match?.[1] ?? "", "base64");
    const expected = this.#serverSignature;
    if (expected === undefined || signature.length !== expected.length || !timingSafeEqual(signature, expected)) {
      throw refused("the target could not prove that it knows the password");
    }
  }
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function serverText(bytes: Buffer): string {
  if (bytes.length > textBytesMax) throw refused("the target's SCRAM message is too long");
  return bytes.toString("latin1");
}

function refused(message: string): GatewayError {
  return new GatewayError("upstream.authentication", message);
}

/** Signature algorithm, as the DER bytes of its OID in hex -> hash of `tls-server-end-point` (RFC 5929: MD5 and SHA-1 become SHA-256). */
const endPointHashes: Readonly<Record<string, string>> = {
  "2a864886f70d010104": "sha256", // md5WithRSAEncryption
  "2a864886f70d010105": "sha256", // sha1WithRSAEncryption
  "2a864886f70d01010b": "sha256", // sha256WithRSAEncryption
  "2a864886f70d01010c": "sha384",
  "2a864886f70d01010d": "sha512",
  "2a8648ce3d0401": "sha256", // ecdsa-with-SHA1
  "2a8648ce3d040302": "sha256", // ecdsa-with-SHA256
  "2a8648ce3d040303": "sha384",
  "2a8648ce3d040304": "sha512",
};

/**
 * Channel-binding data of a certificate in DER, or undefined where its signature names no single hash.
 *
 *   Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }
 */
export function tlsServerEndPoint(certificate: Buffer): Buffer | undefined {
  const outer = derHeader(certificate, 0, 0x30);
  const tbs = outer && derHeader(certificate, outer.start, 0x30);
  const algorithm = tbs && derHeader(certificate, tbs.end, 0x30);
  const oid = algorithm && derHeader(certificate, algorithm.start, 0x06);
  const hash = oid && endPointHashes[certificate.subarray(oid.start, oid.end).toString("hex")];
  return hash ? createHash(hash).update(certificate).digest() : undefined;
}

/** Offsets of the content of the DER element at `at`, if it is whole and has that tag. */
function derHeader(bytes: Buffer, at: number, tag: number): { start: number; end: number } | undefined {
  if (bytes[at] !== tag) return undefined;
  const first = bytes[at + 1] ?? 0;
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  if (lengthBytes > 4 || at + 2 + lengthBytes > bytes.length) return undefined;
  const start = at + 2 + lengthBytes;
  const length = lengthBytes === 0 ? first : bytes.readUIntBE(at + 2, lengthBytes);
  return start + length <= bytes.length ? { start, end: start + length } : undefined;
}
