"""The parts that detection transformers share. Models pass modules in; the kit builds no model.

``attention``, ``deformable_attention``
    Attention modules, all with ``attend(query, memory, reference)``.
``layers``
    Encoder layer, decoder layer, encoder.
``levels``
    Feature maps of a padded batch: flattening, masks, valid ratios, reference points, projections.
``positions``, ``boxes``, ``mlp``
    Position embeddings, box formats and overlaps, prediction heads.
``matching``, ``losses``
    Targets, costs, Hungarian matching, set losses of all decoder layers at once.
``denoising``, ``detections``
    Contrastive denoising queries; the best predictions of an image.
"""
