//! OpenMLS's storage over [`State`]: each value under one byte of kind and the CBOR of its key.
//!
//! A list is one value, `(u32 length ‖ CBOR item)*`: they are short and written with commits only.

use openmls_traits::storage::{CURRENT_VERSION, StorageProvider, traits};
use rmp_serde::config::BytesMode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::state::{FORMAT, PACKED, State, StateError};

/// Kinds of entries. A number is never used for anything else again.
pub(crate) mod kind {
    /// Our own record of the conversation.
    pub(crate) const META: u8 = 0;
    /// Messages sealed since the other side was heard: read where it stands, no longer written.
    pub(crate) const UNHEARD: u8 = 1;
    /// Messages sealed in this epoch, and by whom we were heard.
    pub(crate) const HEARD: u8 = 2;
    /// The epoch before, and the beginning of its authenticator.
    pub(crate) const PREVIOUS: u8 = 3;
    /// Present while keys of the epoch before are kept.
    pub(crate) const CROSSING: u8 = 4;
    /// Present until we have said something in an epoch that another began.
    pub(crate) const QUIET: u8 = 5;
    pub(crate) const JOIN_CONFIG: u8 = 10;
    pub(crate) const OWN_LEAF_NODES: u8 = 11;
    pub(crate) const PROPOSAL: u8 = 12;
    pub(crate) const PROPOSAL_REFS: u8 = 13;
    pub(crate) const TREE: u8 = 14;
    pub(crate) const INTERIM_TRANSCRIPT_HASH: u8 = 15;
    pub(crate) const CONTEXT: u8 = 16;
    pub(crate) const CONFIRMATION_TAG: u8 = 17;
    pub(crate) const GROUP_STATE: u8 = 18;
    pub(crate) const MESSAGE_SECRETS: u8 = 19;
    pub(crate) const RESUMPTION_PSKS: u8 = 20;
    pub(crate) const OWN_LEAF_INDEX: u8 = 21;
    pub(crate) const EPOCH_SECRETS: u8 = 22;
    pub(crate) const SIGNATURE_KEY_PAIR: u8 = 23;
    pub(crate) const ENCRYPTION_KEY_PAIR: u8 = 24;
    pub(crate) const EPOCH_KEY_PAIRS: u8 = 25;
    pub(crate) const KEY_PACKAGE: u8 = 26;
    pub(crate) const PSK: u8 = 27;
}

type Done = Result<(), StateError>;

fn encode<T: Serialize + ?Sized>(mut to: Vec<u8>, value: &T) -> Result<Vec<u8>, StateError> {
    let mut serializer = minicbor_serde::Serializer::new(&mut to);
    value.serialize(&mut serializer).map_err(|_| StateError::Damaged)?;
    Ok(to)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StateError> {
    minicbor_serde::from_slice(bytes).map_err(|_| StateError::Damaged)
}

/// MessagePack with field names, and sequences of bytes as bytes.
fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Zeroizing<Vec<u8>>, StateError> {
    // Most of what is written again and again fits without growing.
    let mut to = Growing(Zeroizing::new(Vec::with_capacity(2048)));
    to.0.push(PACKED);
    let mut serializer = rmp_serde::Serializer::new(&mut to).with_struct_map().with_bytes(BytesMode::ForceIterables);
    value.serialize(&mut serializer).map_err(|_| StateError::Damaged)?;
    Ok(to.0)
}

/// OpenMLS's store of resumption PSKs, with room for none.
#[derive(Default, Serialize)]
struct NoPsks {
    max_number_of_secrets: usize,
    resumption_psk: [(); 0],
    cursor: usize,
}

/// Bytes that grow without leaving a copy of what they were behind.
struct Growing(Zeroizing<Vec<u8>>);

impl std::io::Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = self.0.len() + bytes.len();
        if length > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * length));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn unpack<T: DeserializeOwned>(value: &[u8]) -> Result<T, StateError> {
    match value.split_first() {
        Some((&PACKED, bytes)) => rmp_serde::from_slice(bytes).map_err(|_| StateError::Damaged),
        Some((&FORMAT, bytes)) => decode(bytes),
        _ => Err(StateError::Format),
    }
}

pub(crate) fn key_of<K: Serialize + ?Sized>(kind: u8, key: &K) -> Result<Vec<u8>, StateError> {
    encode(vec![kind], key)
}

impl State {
    fn write<K: Serialize + ?Sized, V: Serialize + ?Sized>(&self, kind: u8, key: &K, value: &V) -> Done {
        self.put(key_of(kind, key)?, pack(value)?);
        Ok(())
    }

    fn read<K: Serialize + ?Sized, V: DeserializeOwned>(&self, kind: u8, key: &K) -> Result<Option<V>, StateError> {
        self.get(&key_of(kind, key)?).map(|value| unpack(&value)).transpose()
    }

    fn remove<K: Serialize + ?Sized>(&self, kind: u8, key: &K) -> Done {
        self.delete(&key_of(kind, key)?);
        Ok(())
    }

    fn items<K: Serialize + ?Sized>(&self, kind: u8, key: &K) -> Result<Vec<Zeroizing<Vec<u8>>>, StateError> {
        let Some(value) = self.get(&key_of(kind, key)?) else { return Ok(Vec::new()) };
        let mut rest = value.get(1..).ok_or(StateError::Damaged)?;
        let mut items = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| StateError::Damaged)?;
            let (item, after) = after.split_at_checked(length).ok_or(StateError::Damaged)?;
            items.push(Zeroizing::new(item.to_vec()));
            rest = after;
        }
        if rest.is_empty() { Ok(items) } else { Err(StateError::Damaged) }
    }

    fn put_items<K: Serialize + ?Sized>(&self, kind: u8, key: &K, items: &[Zeroizing<Vec<u8>>]) -> Done {
        let mut value = Zeroizing::new(vec![FORMAT]);
        for item in items {
            let length = u32::try_from(item.len()).map_err(|_| StateError::Damaged)?;
            value.extend_from_slice(&length.to_be_bytes());
            value.extend_from_slice(item);
        }
        self.put(key_of(kind, key)?, value);
        Ok(())
    }

    fn push<K: Serialize + ?Sized, V: Serialize + ?Sized>(&self, kind: u8, key: &K, item: &V) -> Done {
        let mut items = self.items(kind, key)?;
        items.push(Zeroizing::new(encode(Vec::new(), item)?));
        self.put_items(kind, key, &items)
    }

    fn list<K: Serialize + ?Sized, V: DeserializeOwned>(&self, kind: u8, key: &K) -> Result<Vec<V>, StateError> {
        self.items(kind, key)?.iter().map(|item| decode(item)).collect()
    }
}

impl StorageProvider<CURRENT_VERSION> for State {
    type Error = StateError;

    fn write_mls_join_config<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        MlsGroupJoinConfig: traits::MlsGroupJoinConfig<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        config: &MlsGroupJoinConfig,
    ) -> Done {
        self.write(kind::JOIN_CONFIG, group_id, config)
    }

    fn append_own_leaf_node<GroupId: traits::GroupId<CURRENT_VERSION>, LeafNode: traits::LeafNode<CURRENT_VERSION>>(
        &self,
        group_id: &GroupId,
        leaf_node: &LeafNode,
    ) -> Done {
        self.push(kind::OWN_LEAF_NODES, group_id, leaf_node)
    }

    fn queue_proposal<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ProposalRef: traits::ProposalRef<CURRENT_VERSION>,
        QueuedProposal: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        proposal_ref: &ProposalRef,
        proposal: &QueuedProposal,
    ) -> Done {
        self.write(kind::PROPOSAL, &(group_id, proposal_ref), proposal)?;
        self.push(kind::PROPOSAL_REFS, group_id, proposal_ref)
    }

    fn write_tree<GroupId: traits::GroupId<CURRENT_VERSION>, TreeSync: traits::TreeSync<CURRENT_VERSION>>(
        &self,
        group_id: &GroupId,
        tree: &TreeSync,
    ) -> Done {
        self.write(kind::TREE, group_id, tree)
    }

    fn write_interim_transcript_hash<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        InterimTranscriptHash: traits::InterimTranscriptHash<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        interim_transcript_hash: &InterimTranscriptHash,
    ) -> Done {
        self.write(kind::INTERIM_TRANSCRIPT_HASH, group_id, interim_transcript_hash)
    }

    fn write_context<GroupId: traits::GroupId<CURRENT_VERSION>, GroupContext: traits::GroupContext<CURRENT_VERSION>>(
        &self,
        group_id: &GroupId,
        group_context: &GroupContext,
    ) -> Done {
        self.write(kind::CONTEXT, group_id, group_context)
    }

    fn write_confirmation_tag<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ConfirmationTag: traits::ConfirmationTag<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        confirmation_tag: &ConfirmationTag,
    ) -> Done {
        self.write(kind::CONFIRMATION_TAG, group_id, confirmation_tag)
    }

    fn write_group_state<GroupState: traits::GroupState<CURRENT_VERSION>, GroupId: traits::GroupId<CURRENT_VERSION>>(
        &self,
        group_id: &GroupId,
        group_state: &GroupState,
    ) -> Done {
        self.write(kind::GROUP_STATE, group_id, group_state)
    }

    fn write_message_secrets<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        MessageSecrets: traits::MessageSecrets<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        message_secrets: &MessageSecrets,
    ) -> Done {
        self.write(kind::MESSAGE_SECRETS, group_id, message_secrets)
    }

    fn write_resumption_psk_store<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ResumptionPskStore: traits::ResumptionPskStore<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        _: &ResumptionPskStore,
    ) -> Done {
        // A group that OpenMLS makes keeps those of 32 epochs, whatever its configuration says. None is ever used, and none outlives its epoch.
        self.remove(kind::RESUMPTION_PSKS, group_id)
    }

    fn write_own_leaf_index<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        LeafNodeIndex: traits::LeafNodeIndex<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        own_leaf_index: &LeafNodeIndex,
    ) -> Done {
        self.write(kind::OWN_LEAF_INDEX, group_id, own_leaf_index)
    }

    fn write_group_epoch_secrets<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        GroupEpochSecrets: traits::GroupEpochSecrets<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        group_epoch_secrets: &GroupEpochSecrets,
    ) -> Done {
        self.write(kind::EPOCH_SECRETS, group_id, group_epoch_secrets)
    }

    fn write_signature_key_pair<
        SignaturePublicKey: traits::SignaturePublicKey<CURRENT_VERSION>,
        SignatureKeyPair: traits::SignatureKeyPair<CURRENT_VERSION>,
    >(
        &self,
        public_key: &SignaturePublicKey,
        signature_key_pair: &SignatureKeyPair,
    ) -> Done {
        self.write(kind::SIGNATURE_KEY_PAIR, public_key, signature_key_pair)
    }

    fn write_encryption_key_pair<
        EncryptionKey: traits::EncryptionKey<CURRENT_VERSION>,
        HpkeKeyPair: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        public_key: &EncryptionKey,
        key_pair: &HpkeKeyPair,
    ) -> Done {
        self.write(kind::ENCRYPTION_KEY_PAIR, public_key, key_pair)
    }

    fn write_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        EpochKey: traits::EpochKey<CURRENT_VERSION>,
        HpkeKeyPair: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
        key_pairs: &[HpkeKeyPair],
    ) -> Done {
        self.write(kind::EPOCH_KEY_PAIRS, &(group_id, epoch, leaf_index), key_pairs)
    }

    fn write_key_package<
        HashReference: traits::HashReference<CURRENT_VERSION>,
        KeyPackage: traits::KeyPackage<CURRENT_VERSION>,
    >(
        &self,
        hash_ref: &HashReference,
        key_package: &KeyPackage,
    ) -> Done {
        self.write(kind::KEY_PACKAGE, hash_ref, key_package)
    }

    fn write_psk<PskId: traits::PskId<CURRENT_VERSION>, PskBundle: traits::PskBundle<CURRENT_VERSION>>(
        &self,
        psk_id: &PskId,
        psk: &PskBundle,
    ) -> Done {
        self.write(kind::PSK, psk_id, psk)
    }

    fn mls_group_join_config<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        MlsGroupJoinConfig: traits::MlsGroupJoinConfig<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<MlsGroupJoinConfig>, StateError> {
        self.read(kind::JOIN_CONFIG, group_id)
    }

    fn own_leaf_nodes<GroupId: traits::GroupId<CURRENT_VERSION>, LeafNode: traits::LeafNode<CURRENT_VERSION>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<LeafNode>, StateError> {
        self.list(kind::OWN_LEAF_NODES, group_id)
    }

    fn queued_proposal_refs<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ProposalRef: traits::ProposalRef<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<ProposalRef>, StateError> {
        self.list(kind::PROPOSAL_REFS, group_id)
    }

    fn queued_proposals<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ProposalRef: traits::ProposalRef<CURRENT_VERSION>,
        QueuedProposal: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<(ProposalRef, QueuedProposal)>, StateError> {
        let refs: Vec<ProposalRef> = self.list(kind::PROPOSAL_REFS, group_id)?;
        let one = |reference: ProposalRef| {
            let proposal = self.read(kind::PROPOSAL, &(group_id, &reference))?.ok_or(StateError::Incomplete)?;
            Ok((reference, proposal))
        };
        refs.into_iter().map(one).collect()
    }

    fn tree<GroupId: traits::GroupId<CURRENT_VERSION>, TreeSync: traits::TreeSync<CURRENT_VERSION>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<TreeSync>, StateError> {
        self.read(kind::TREE, group_id)
    }

    fn group_context<GroupId: traits::GroupId<CURRENT_VERSION>, GroupContext: traits::GroupContext<CURRENT_VERSION>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<GroupContext>, StateError> {
        self.read(kind::CONTEXT, group_id)
    }

    fn interim_transcript_hash<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        InterimTranscriptHash: traits::InterimTranscriptHash<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<InterimTranscriptHash>, StateError> {
        self.read(kind::INTERIM_TRANSCRIPT_HASH, group_id)
    }

    fn confirmation_tag<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ConfirmationTag: traits::ConfirmationTag<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<ConfirmationTag>, StateError> {
        self.read(kind::CONFIRMATION_TAG, group_id)
    }

    fn group_state<GroupState: traits::GroupState<CURRENT_VERSION>, GroupId: traits::GroupId<CURRENT_VERSION>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<GroupState>, StateError> {
        self.read(kind::GROUP_STATE, group_id)
    }

    fn message_secrets<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        MessageSecrets: traits::MessageSecrets<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<MessageSecrets>, StateError> {
        self.read(kind::MESSAGE_SECRETS, group_id)
    }

    fn resumption_psk_store<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ResumptionPskStore: traits::ResumptionPskStore<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
    ) -> Result<Option<ResumptionPskStore>, StateError> {
        unpack(&pack(&NoPsks::default())?).map(Some)
    }

    fn own_leaf_index<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        LeafNodeIndex: traits::LeafNodeIndex<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<LeafNodeIndex>, StateError> {
        self.read(kind::OWN_LEAF_INDEX, group_id)
    }

    fn group_epoch_secrets<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        GroupEpochSecrets: traits::GroupEpochSecrets<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<GroupEpochSecrets>, StateError> {
        self.read(kind::EPOCH_SECRETS, group_id)
    }

    fn signature_key_pair<
        SignaturePublicKey: traits::SignaturePublicKey<CURRENT_VERSION>,
        SignatureKeyPair: traits::SignatureKeyPair<CURRENT_VERSION>,
    >(
        &self,
        public_key: &SignaturePublicKey,
    ) -> Result<Option<SignatureKeyPair>, StateError> {
        self.read(kind::SIGNATURE_KEY_PAIR, public_key)
    }

    fn encryption_key_pair<
        HpkeKeyPair: traits::HpkeKeyPair<CURRENT_VERSION>,
        EncryptionKey: traits::EncryptionKey<CURRENT_VERSION>,
    >(
        &self,
        public_key: &EncryptionKey,
    ) -> Result<Option<HpkeKeyPair>, StateError> {
        self.read(kind::ENCRYPTION_KEY_PAIR, public_key)
    }

    fn encryption_epoch_key_pairs<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        EpochKey: traits::EpochKey<CURRENT_VERSION>,
        HpkeKeyPair: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
    ) -> Result<Vec<HpkeKeyPair>, StateError> {
        Ok(self.read(kind::EPOCH_KEY_PAIRS, &(group_id, epoch, leaf_index))?.unwrap_or_default())
    }

    fn key_package<
        KeyPackageRef: traits::HashReference<CURRENT_VERSION>,
        KeyPackage: traits::KeyPackage<CURRENT_VERSION>,
    >(
        &self,
        hash_ref: &KeyPackageRef,
    ) -> Result<Option<KeyPackage>, StateError> {
        self.read(kind::KEY_PACKAGE, hash_ref)
    }

    fn psk<PskBundle: traits::PskBundle<CURRENT_VERSION>, PskId: traits::PskId<CURRENT_VERSION>>(
        &self,
        psk_id: &PskId,
    ) -> Result<Option<PskBundle>, StateError> {
        self.read(kind::PSK, psk_id)
    }

    fn remove_proposal<GroupId: traits::GroupId<CURRENT_VERSION>, ProposalRef: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        group_id: &GroupId,
        proposal_ref: &ProposalRef,
    ) -> Done {
        let mut items = self.items(kind::PROPOSAL_REFS, group_id)?;
        let gone = Zeroizing::new(encode(Vec::new(), proposal_ref)?);
        items.retain(|item| *item != gone);
        self.put_items(kind::PROPOSAL_REFS, group_id, &items)?;
        self.remove(kind::PROPOSAL, &(group_id, proposal_ref))
    }

    fn delete_own_leaf_nodes<GroupId: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &GroupId) -> Done {
        self.remove(kind::OWN_LEAF_NODES, group_id)
    }

    fn delete_group_config<GroupId: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &GroupId) -> Done {
        self.remove(kind::JOIN_CONFIG, group_id)
    }

    fn delete_tree<GroupId: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &GroupId) -> Done {
        self.remove(kind::TREE, group_id)
    }

    fn delete_confirmation_tag<GroupId: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &GroupId) -> Done {
        self.remove(kind::CONFIRMATION_TAG, group_id)
    }

    fn delete_group_state<GroupId: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &GroupId) -> Done {
        self.remove(kind::GROUP_STATE, group_id)
    }

    fn delete_context<GroupId: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &GroupId) -> Done {
        self.remove(kind::CONTEXT, group_id)
    }

    fn delete_interim_transcript_hash<GroupId: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &GroupId) -> Done {
        self.remove(kind::INTERIM_TRANSCRIPT_HASH, group_id)
    }

    fn delete_message_secrets<GroupId: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &GroupId) -> Done {
        self.remove(kind::MESSAGE_SECRETS, group_id)
    }

    fn delete_all_resumption_psk_secrets<GroupId: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &GroupId) -> Done {
        self.remove(kind::RESUMPTION_PSKS, group_id)
    }

    fn delete_own_leaf_index<GroupId: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &GroupId) -> Done {
        self.remove(kind::OWN_LEAF_INDEX, group_id)
    }

    fn delete_group_epoch_secrets<GroupId: traits::GroupId<CURRENT_VERSION>>(&self, group_id: &GroupId) -> Done {
        self.remove(kind::EPOCH_SECRETS, group_id)
    }

    fn clear_proposal_queue<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ProposalRef: traits::ProposalRef<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Done {
        for reference in self.list::<_, ProposalRef>(kind::PROPOSAL_REFS, group_id)? {
            self.remove(kind::PROPOSAL, &(group_id, &reference))?;
        }
        self.remove(kind::PROPOSAL_REFS, group_id)
    }

    fn delete_signature_key_pair<SignaturePublicKey: traits::SignaturePublicKey<CURRENT_VERSION>>(
        &self,
        public_key: &SignaturePublicKey,
    ) -> Done {
        self.remove(kind::SIGNATURE_KEY_PAIR, public_key)
    }

    fn delete_encryption_key_pair<EncryptionKey: traits::EncryptionKey<CURRENT_VERSION>>(
        &self,
        public_key: &EncryptionKey,
    ) -> Done {
        self.remove(kind::ENCRYPTION_KEY_PAIR, public_key)
    }

    fn delete_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        EpochKey: traits::EpochKey<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
    ) -> Done {
        self.remove(kind::EPOCH_KEY_PAIRS, &(group_id, epoch, leaf_index))
    }

    fn delete_key_package<KeyPackageRef: traits::HashReference<CURRENT_VERSION>>(
        &self,
        hash_ref: &KeyPackageRef,
    ) -> Done {
        self.remove(kind::KEY_PACKAGE, hash_ref)
    }

    fn delete_psk<PskKey: traits::PskId<CURRENT_VERSION>>(&self, psk_id: &PskKey) -> Done {
        self.remove(kind::PSK, psk_id)
    }
}
