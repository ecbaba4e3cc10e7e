"""Trains the tiny backbone on the puppet world: `python -m synmotion_core.puppets.pretrain`. Resumable, CPU or CUDA.

    corpus   fit the autoencoder, render and encode the training set (once)
    deblock  train the autoencoder's residual decoder; latents stay as they are
    train    flow matching on cached latents; text encoders learn along; T2V and token_replace I2V share weights
    export   write the EMA weights as an ordinary diffusers folder (bf16)
    all      the four: the denoiser trains for --minutes while rendering and the decoder's training go on beside it

Flow matching, diffusion.py's convention:  x_s = (1 - s) x + s noise,  s = sigmoid(N(mean, std)). The transformer
predicts x (blueprint.py says why), the loss is the error of its velocity (x_s - x) / s:  |x^ - x|^2 / max(s, 0.15)^2.
With `--window 6x5` most steps see that part of the frame's latents only; puppets fill two fifths of the frame.
In an I2V step latent frame 0 stays clean, its tokens see time 0, and the loss is on the frames after it.
Everything random in step k depends on (seed, k) and the corpus only, so that over a complete corpus a killed run
continues as if it had not been. On CUDA the latents live on the card; `corpus` may go on adding chunks in another
process while `train` runs.
"""
