/** What a bundle may be signed with: those of OPA that have a public key. `none` and HMAC are not among them. */
export const signingAlgorithms = [
  ...(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] as const),
  ...(["ES256", "ES384", "ES512", "EdDSA"] as const),
];
export type SigningAlgorithm = (typeof signingAlgorithms)[number];
