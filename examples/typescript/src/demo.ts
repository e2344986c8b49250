// What a wallet or an explorer does with a node: reads, a signed transaction, a subscription. Runs anywhere.

import * as oasis from '@oasisprotocol/client';

/** Where and with which account. */
export interface Options {
    /** The node's gRPC-Web listener, such as `http://127.0.0.1:8080`. */
    node: string;
    /** Secret key of a funded account: 64 bytes in base64, as in `entity.pem`. */
    key: string;
    /** Who gets tokens: `oasis1…`. */
    to: string;
    /** How many, in base units. */
    amount: bigint;
}

/** What came of it; numbers are decimal text. */
export interface Outcome {
    chainContext: string;
    height: string;
    epoch: string;
    symbol: string;
    entities: number;
    validators: number;
    from: string;
    nonceBefore: string;
    balanceBefore: string;
    balanceAfter: string;
    transaction: string;
    /** Heights that the subscription gave. */
    heights: string[];
    /** Module and code of a transaction that the node must refuse. */
    refused: string;
    /** What the node says of a method that pages may not call. */
    forbidden: string;
}

const BLOCKS = 3;

/** The heights of the next blocks. */
function nextBlocks(node: oasis.client.NodeInternal, count: number): Promise<string[]> {
    return new Promise((resolve, reject) => {
        const heights: string[] = [];
        const stream = node.consensusWatchBlocks();
        stream.on('error', reject);
        stream.on('data', (block: oasis.types.ConsensusBlock) => {
            heights.push(String(block.height));
            if (heights.length === count) {
                stream.cancel();
                resolve(heights);
            }
        });
    });
}

/** Does all of it. */
export async function demo(options: Options): Promise<Outcome> {
    const node = new oasis.client.NodeInternal(options.node);
    const signer = oasis.signature.NaclSigner.fromSecret(
        oasis.misc.fromBase64(options.key),
        'this key is not important',
    );
    const latest = oasis.consensus.HEIGHT_LATEST;
    const own = oasis.staking.addressFromPublicKey(signer.public());
    const to = oasis.staking.addressFromBech32(options.to);
    const account = (owner: Uint8Array) => node.stakingAccount({ height: latest, owner });
    const balance = async (owner: Uint8Array) =>
        oasis.quantity.toBigInt((await account(owner)).general?.balance ?? new Uint8Array());

    const chainContext = await node.consensusGetChainContext();
    const status = await node.consensusGetStatus();
    const epoch = await node.beaconGetEpoch(latest);
    const symbol = await node.stakingTokenSymbol(latest);
    const entities = await node.registryGetEntities(latest);
    const validators = await node.schedulerGetValidators(latest);

    const blocks = nextBlocks(node, BLOCKS);

    const nonce = (await account(own)).general?.nonce ?? 0;
    const balanceBefore = await balance(to);
    const transfer = oasis.staking.transferWrapper();
    transfer.setNonce(nonce);
    transfer.setFeeAmount(oasis.quantity.fromBigInt(0n));
    transfer.setBody({ to, amount: oasis.quantity.fromBigInt(options.amount) });
    transfer.setFeeGas(await transfer.estimateGas(node, signer.public()));
    await transfer.sign(new oasis.signature.BlindContextSigner(signer), chainContext);
    await transfer.submit(node);
    const balanceAfter = await balance(to);

    // The same transaction again: its nonce has been used.
    const refused = await transfer.submit(node).then(
        () => 'accepted',
        (error) => `${error.oasisModule}/${error.oasisCode}`,
    );
    const forbidden = await node.nodeControllerIsSynced().then(
        () => 'allowed',
        (error) => String(error.message),
    );
    return {
        chainContext,
        height: String(status.latest_height),
        epoch: String(epoch),
        symbol,
        entities: entities.length,
        validators: validators.length,
        from: oasis.staking.addressToBech32(own),
        nonceBefore: String(nonce),
        balanceBefore: String(balanceBefore),
        balanceAfter: String(balanceAfter),
        transaction: transfer.hash(),
        heights: await blocks,
        refused,
        forbidden,
    };
}
